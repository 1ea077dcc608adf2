// What minio-go does with its defaults. Arguments: host:port; credentials from the environment.
package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

func main() {
	endpoint := os.Args[1]
	_, port, _ := net.SplitHostPort(endpoint)
	ctx := context.Background()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = onThisMachine(port)
	for _, style := range []struct {
		name   string
		lookup minio.BucketLookupType
		trail  bool
		keys   int
	}{{"auto", minio.BucketLookupAuto, false, 6}, {"path", minio.BucketLookupPath, true, 7}, {"virtual", minio.BucketLookupDNS, true, 7}} {
		client, err := minio.New(endpoint, &minio.Options{
			Creds: credentials.NewEnvAWS(), Transport: transport, BucketLookup: style.lookup, TrailingHeaders: style.trail,
		})
		if err != nil {
			panic(err)
		}
		bucket := "go-" + hex.EncodeToString(random(6))
		data := random(300_000)
		get := func(key string) ([]byte, error) {
			object, err := client.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
			if err != nil {
				return nil, err
			}
			return io.ReadAll(object)
		}
		roundTrip := func(key string, reader io.Reader, size int64, options minio.PutObjectOptions, want []byte) error {
			if _, err := client.PutObject(ctx, bucket, key, reader, size, options); err != nil {
				return err
			}
			got, err := get(key)
			if err != nil {
				return err
			}
			return same(got, want)
		}
		check(style.name+" make bucket", func() error { return client.MakeBucket(ctx, bucket, minio.MakeBucketOptions{}) })
		check(style.name+" bucket exists", func() error {
			found, err := client.BucketExists(ctx, bucket)
			if err == nil && !found {
				err = fmt.Errorf("not found")
			}
			return err
		})
		check(style.name+" put and get", func() error {
			return roundTrip("a b/é+%.txt", bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{UserMetadata: map[string]string{"a": "b"}}, data)
		})
		check(style.name+" put empty", func() error { return roundTrip("empty", bytes.NewReader(nil), 0, minio.PutObjectOptions{}, nil) })
		check(style.name+" put of unknown size", func() error {
			return roundTrip("unknown", stream(data), -1, minio.PutObjectOptions{PartSize: 5 << 20}, data)
		})
		check(style.name+" put without sha256", func() error {
			return roundTrip("unsigned", stream(data), int64(len(data)), minio.PutObjectOptions{DisableContentSha256: true}, data)
		})
		for _, kind := range []minio.ChecksumType{minio.ChecksumCRC32, minio.ChecksumCRC32C, minio.ChecksumSHA1, minio.ChecksumSHA256, minio.ChecksumCRC64NVME} {
			if !style.trail {
				break // minio-go refuses to send one
			}
			check(style.name+" checksum "+kind.String(), func() error {
				return roundTrip("sum", bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{Checksum: kind}, data)
			})
			check(style.name+" checksum of a stream "+kind.String(), func() error {
				return roundTrip("sum", stream(data), int64(len(data)), minio.PutObjectOptions{Checksum: kind}, data)
			})
		}
		check(style.name+" multipart", func() error {
			big := random(12 << 20)
			return roundTrip("big", bytes.NewReader(big), int64(len(big)), minio.PutObjectOptions{PartSize: 5 << 20}, big)
		})
		check(style.name+" concurrent stream parts", func() error {
			big := random(12 << 20)
			return roundTrip("big2", stream(big), -1, minio.PutObjectOptions{PartSize: 5 << 20, NumThreads: 1, ConcurrentStreamParts: true}, big) // one: its threads share a hasher
		})
		check(style.name+" list", func() error {
			n := 0
			for object := range client.ListObjects(ctx, bucket, minio.ListObjectsOptions{Recursive: true, MaxKeys: 2}) {
				if object.Err != nil {
					return object.Err
				}
				n++
			}
			if n != style.keys {
				return fmt.Errorf("%d keys", n)
			}
			return nil
		})
		check(style.name+" list v1", func() error {
			n := 0
			for object := range client.ListObjects(ctx, bucket, minio.ListObjectsOptions{UseV1: true, MaxKeys: 2}) {
				if object.Err != nil {
					return object.Err
				}
				n++
			}
			if n != style.keys {
				return fmt.Errorf("%d entries", n)
			}
			return nil
		})
		check(style.name+" copy", func() error {
			_, err := client.CopyObject(ctx, minio.CopyDestOptions{Bucket: bucket, Object: "copy"}, minio.CopySrcOptions{Bucket: bucket, Object: "a b/é+%.txt"})
			return err
		})
		check(style.name+" tags", func() error {
			_, err := client.GetObjectTagging(ctx, bucket, "copy", minio.GetObjectTaggingOptions{})
			return err
		})
		sender := &http.Client{Transport: transport}
		check(style.name+" presigned", func() error {
			put, err := client.PresignedPutObject(ctx, bucket, "p é", time.Minute)
			if err != nil {
				return err
			}
			if _, err = fetch(sender, "PUT", put.String(), data); err != nil {
				return err
			}
			address, err := client.PresignedGetObject(ctx, bucket, "p é", time.Minute, url.Values{"response-content-disposition": {"attachment; filename*=UTF-8''%C3%A9.pdf"}})
			if err != nil {
				return err
			}
			got, err := fetch(sender, "GET", address.String(), nil)
			if err != nil {
				return err
			}
			return same(got, data)
		})
		check(style.name+" remove all", func() error {
			for failure := range client.RemoveObjects(ctx, bucket, client.ListObjects(ctx, bucket, minio.ListObjectsOptions{Recursive: true}), minio.RemoveObjectsOptions{}) {
				return failure.Err
			}
			return client.RemoveBucket(ctx, bucket)
		})
	}
	finish()
}
