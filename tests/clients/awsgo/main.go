// What the AWS SDK for Go does with its defaults. Arguments: endpoint; credentials and region from the environment.
package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	managed "github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

var (
	ctx     = context.Background()
	awkward = []string{"a b", "a+b", "100%", "é/ü", "deep/er/key", "emoji-🙂", "semi;colon", "quote'd", "tilde~"}
)

func refused(err error, code string) error {
	var problem smithy.APIError
	if !errors.As(err, &problem) || problem.ErrorCode() != code {
		return fmt.Errorf("%v is not %s", err, code)
	}
	return nil
}

func main() {
	endpoint, _ := url.Parse(os.Args[1])
	transport := awshttp.NewBuildableClient().WithTransportOptions(func(transport *http.Transport) {
		transport.DialContext = onThisMachine(endpoint.Port())
	})
	settings, err := config.LoadDefaultConfig(ctx, config.WithHTTPClient(transport), config.WithBaseEndpoint(os.Args[1]))
	if err != nil {
		panic(err)
	}
	for _, path := range []bool{true, false} {
		client := s3.NewFromConfig(settings, func(options *s3.Options) { options.UsePathStyle = path })
		exercise(map[bool]string{true: "path", false: "virtual"}[path], client, transport)
	}
	check("who am I", func() error {
		told, err := sts.NewFromConfig(settings).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		if err == nil && !strings.HasPrefix(*told.Arn, "arn:aws:iam::"+*told.Account) {
			err = fmt.Errorf("%s", *told.Arn)
		}
		return err
	})
	finish()
}

func exercise(style string, client *s3.Client, transport *awshttp.BuildableClient) {
	bucket := aws.String("awsgo-" + hex.EncodeToString(random(6)))
	get := func(key string) ([]byte, error) {
		got, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: &key})
		if err != nil {
			return nil, err
		}
		defer got.Body.Close()
		return io.ReadAll(got.Body)
	}
	check(style+" create a bucket and wait for it", func() error {
		if _, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
			return err
		}
		return s3.NewBucketExistsWaiter(client).Wait(ctx, &s3.HeadBucketInput{Bucket: bucket}, time.Minute)
	})
	check(style+" awkward keys", func() error {
		for _, key := range awkward {
			input := &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: strings.NewReader(key), Metadata: map[string]string{"a": "b"}}
			if _, err := client.PutObject(ctx, input); err != nil {
				return err
			}
			got, err := get(key)
			if err == nil {
				err = same(got, []byte(key))
			}
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
		return nil
	})
	for _, algorithm := range []types.ChecksumAlgorithm{"CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"} { // those that the SDK computes
		check(style+" checksum "+string(algorithm), func() error {
			data := random(9000)
			input := &s3.PutObjectInput{Bucket: bucket, Key: aws.String("sum"), Body: bytes.NewReader(data), ChecksumAlgorithm: algorithm}
			if _, err := client.PutObject(ctx, input); err != nil {
				return err
			}
			got, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("sum"), ChecksumMode: types.ChecksumModeEnabled})
			if err != nil {
				return err
			}
			defer got.Body.Close()
			read, err := io.ReadAll(got.Body)
			if err != nil {
				return err
			}
			return same(read, data)
		})
	}
	manager := transfermanager.New(client, func(options *transfermanager.Options) { options.PartSizeBytes = 5 << 20 })
	check(style+" transfer manager: a stream up, parts down", func() error {
		data := random(17 << 20)
		if _, err := manager.UploadObject(ctx, &transfermanager.UploadObjectInput{Bucket: bucket, Key: aws.String("big"), Body: stream(data)}); err != nil {
			return err
		}
		for _, kind := range []managed.GetObjectType{managed.GetObjectParts, managed.GetObjectRanges} {
			input := &transfermanager.GetObjectInput{Bucket: bucket, Key: aws.String("big")}
			got, err := manager.GetObject(ctx, input, func(options *transfermanager.Options) { options.GetObjectType = kind })
			if err != nil {
				return err
			}
			read, err := io.ReadAll(got.Body)
			if err == nil {
				err = same(read, data)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
		}
		return nil
	})
	check(style+" transfer manager: a folder up and down", func() error {
		folder, err := os.MkdirTemp("", "shardgate-client-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(folder)
		data := random(100_000)
		os.MkdirAll(filepath.Join(folder, "up", "deeper"), 0o700)
		os.WriteFile(filepath.Join(folder, "up", "deeper", "one é"), data, 0o600)
		up := &transfermanager.UploadDirectoryInput{Bucket: bucket, Source: aws.String(folder + "/up"), KeyPrefix: aws.String("folder"), Recursive: aws.Bool(true)}
		if _, err := manager.UploadDirectory(ctx, up); err != nil {
			return err
		}
		down := &transfermanager.DownloadDirectoryInput{Bucket: bucket, Destination: aws.String(folder + "/down"), KeyPrefix: aws.String("folder")}
		if _, err := manager.DownloadDirectory(ctx, down); err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(folder, "down", "deeper", "one é"))
		if err != nil {
			return err
		}
		return same(got, data)
	})
	check(style+" paginators", func() error {
		found := 0
		pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: bucket, MaxKeys: aws.Int32(2)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return err
			}
			found += len(page.Contents)
		}
		if found != len(awkward)+3 {
			return fmt.Errorf("%d keys", found)
		}
		return nil
	})
	check(style+" copy and tags", func() error {
		source := *bucket + "/" + url.PathEscape("é/ü")
		if _, err := client.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: aws.String("copy"), CopySource: &source, Tagging: aws.String("a=b"), TaggingDirective: types.TaggingDirectiveReplace}); err != nil {
			return err
		}
		told, err := client.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: bucket, Key: aws.String("copy")})
		if err == nil && (len(told.TagSet) != 1 || *told.TagSet[0].Value != "b") {
			err = fmt.Errorf("%d tags", len(told.TagSet))
		}
		return err
	})
	check(style+" conditions", func() error {
		input := &s3.PutObjectInput{Bucket: bucket, Key: aws.String("once"), Body: strings.NewReader("1"), IfNoneMatch: aws.String("*")}
		if _, err := client.PutObject(ctx, input); err != nil {
			return err
		}
		input.Body = strings.NewReader("2")
		_, err := client.PutObject(ctx, input)
		return refused(err, "PreconditionFailed")
	})
	check(style+" what is missing", func() error {
		var missing *types.NoSuchKey
		if _, err := get("nothing"); !errors.As(err, &missing) {
			return fmt.Errorf("%w is not NoSuchKey", err)
		}
		return nil
	})
	check(style+" presigned", func() error {
		signing := s3.NewPresignClient(client)
		put, err := signing.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("p é")})
		if err != nil {
			return err
		}
		if _, err = fetch(transport, put.Method, put.URL, []byte("presigned")); err != nil {
			return err
		}
		address, err := signing.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("p é")})
		if err != nil {
			return err
		}
		got, err := fetch(transport, address.Method, address.URL, nil)
		if err != nil {
			return err
		}
		return same(got, []byte("presigned"))
	})
	check(style+" remove all", func() error {
		listed, err := client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket})
		if err != nil {
			return err
		}
		var all []types.ObjectIdentifier
		for _, object := range listed.Contents {
			all = append(all, types.ObjectIdentifier{Key: object.Key})
		}
		done, err := client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{Objects: all}})
		if err != nil {
			return err
		}
		if len(done.Deleted) != len(all) {
			return fmt.Errorf("%d of %d are deleted", len(done.Deleted), len(all))
		}
		_, err = client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: bucket})
		return err
	})
}
