// What every check of a client in Go needs. It is copied beside each main.go before that is built.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

var failed = 0

func check(name string, work func() error) {
	if err := work(); err != nil {
		failed++
		fmt.Printf("FAIL %s: %v\n", name, err)
		return
	}
	fmt.Printf("ok   %s\n", name)
}

func same(got, want []byte) error {
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%d bytes are not the %d that were put", len(got), len(want))
	}
	return nil
}

func random(size int) []byte {
	data := make([]byte, size)
	rand.Read(data)
	return data
}

// A body whose size nobody knows.
func stream(data []byte) io.Reader {
	return struct{ io.Reader }{bytes.NewReader(data)}
}

// Connects to this machine whatever name is asked for, such as BUCKET.localhost.
func onThisMachine(port string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+port)
	}
}

// Sends a request that was signed before, and returns the body of a 200.
func fetch(client interface {
	Do(*http.Request) (*http.Response, error)
}, method, address string, body []byte) ([]byte, error) {
	request, err := http.NewRequest(method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d %s", answer.StatusCode, got)
	}
	return got, err
}

func finish() {
	if failed > 0 {
		os.Exit(1)
	}
}
