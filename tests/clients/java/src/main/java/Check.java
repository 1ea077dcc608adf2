// What the AWS SDK for Java does with its defaults. Arguments: endpoint; credentials and region from the environment.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import software.amazon.awssdk.core.ResponseBytes;
import software.amazon.awssdk.core.async.AsyncRequestBody;
import software.amazon.awssdk.core.async.AsyncResponseTransformer;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.services.s3.S3AsyncClient;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.S3Configuration;
import software.amazon.awssdk.services.s3.model.*;
import software.amazon.awssdk.services.s3.presigner.S3Presigner;
import software.amazon.awssdk.services.sts.StsClient;
import software.amazon.awssdk.transfer.s3.S3TransferManager;
import software.amazon.awssdk.transfer.s3.model.*;

public class Check extends Checking {
    static final List<String> AWKWARD =
        List.of("a b", "a+b", "100%", "é/ü", "deep/er/key", "emoji-🙂", "semi;colon", "quote'd", "tilde~");

    public static void main(String[] arguments) throws Exception {
        URI endpoint = URI.create(arguments[0]);
        String ours = "java-" + UUID.randomUUID();
        // Java finds *.localhost nowhere unless it is told: everything is on this machine.
        Path hosts = Files.writeString(Files.createTempFile("shardgate-client-", ""), "127.0.0.1 localhost " + ours + ".localhost " + ours + "-none.localhost\n");
        System.setProperty("jdk.net.hosts.file", hosts.toString());
        exercise("path", endpoint, true, "java-" + UUID.randomUUID());
        exercise("virtual", endpoint, false, ours);
        check("who am I", () -> {
            try (StsClient sts = StsClient.builder().endpointOverride(endpoint).build()) {
                var told = sts.getCallerIdentity();
                same(told.arn().startsWith("arn:aws:iam::" + told.account()), true);
            }
        });
        finish();
    }

    static void exercise(String style, URI endpoint, boolean path, String bucket) throws Exception {
        S3Client s3 = S3Client.builder().endpointOverride(endpoint).forcePathStyle(path).build();
        S3AsyncClient async = S3AsyncClient.builder().endpointOverride(endpoint).forcePathStyle(path).multipartEnabled(true)
            .multipartConfiguration(parts -> parts.minimumPartSizeInBytes(5L << 20).thresholdInBytes(8L << 20)).build();
        S3TransferManager manager = S3TransferManager.builder().s3Client(async).build();
        Path folder = Files.createTempDirectory("shardgate-client-");

        check(style + " create a bucket and wait for it", () -> {
            s3.createBucket(request -> request.bucket(bucket));
            s3.waiter().waitUntilBucketExists(request -> request.bucket(bucket));
        });
        check(style + " awkward keys", () -> {
            for (String key : AWKWARD) {
                s3.putObject(request -> request.bucket(bucket).key(key).metadata(Map.of("a", "b")), RequestBody.fromString(key));
                ResponseBytes<GetObjectResponse> got = s3.getObjectAsBytes(request -> request.bucket(bucket).key(key));
                same(got.asUtf8String(), key);
                same(got.response().metadata(), Map.of("a", "b"));
            }
        });
        for (ChecksumAlgorithm algorithm : List.of(ChecksumAlgorithm.CRC32, ChecksumAlgorithm.SHA1, ChecksumAlgorithm.SHA256)) {
            check(style + " checksum " + algorithm, () -> {
                byte[] data = random(9000);
                s3.putObject(request -> request.bucket(bucket).key("sum").checksumAlgorithm(algorithm), RequestBody.fromBytes(data));
                same(s3.getObjectAsBytes(request -> request.bucket(bucket).key("sum").checksumMode(ChecksumMode.ENABLED)).asByteArray(), data);
            });
        }
        check(style + " transfer manager: a file up and down in parts", () -> {
            byte[] data = random(17 << 20);
            Path up = Files.write(folder.resolve("up"), data);
            manager.uploadFile(UploadFileRequest.builder().source(up).putObjectRequest(r -> r.bucket(bucket).key("big")).build())
                .completionFuture().join();
            Path down = folder.resolve("down");
            manager.downloadFile(DownloadFileRequest.builder().destination(down).getObjectRequest(r -> r.bucket(bucket).key("big")).build())
                .completionFuture().join();
            same(Files.readAllBytes(down), data);
        });
        check(style + " a stream whose size nobody knows", () -> {
            byte[] data = random(12 << 20);
            var body = AsyncRequestBody.forBlockingInputStream(null);
            var stored = async.putObject(request -> request.bucket(bucket).key("stream"), body);
            body.writeInputStream(new java.io.ByteArrayInputStream(data));
            stored.join();
            same(async.getObject(request -> request.bucket(bucket).key("stream"), AsyncResponseTransformer.toBytes()).join().asByteArray(), data);
        });
        check(style + " transfer manager: a folder up and down", () -> {
            Path up = Files.createDirectories(folder.resolve("all/deeper"));
            byte[] data = random(100_000);
            Files.write(up.resolve("one é"), data);
            var sent = manager.uploadDirectory(r -> r.bucket(bucket).source(folder.resolve("all")).s3Prefix("folder")).completionFuture().join();
            same(sent.failedTransfers().size(), 0);
            var back = folder.resolve("back");
            var got = manager.downloadDirectory(r -> r.bucket(bucket).destination(back).listObjectsV2RequestTransformer(l -> l.prefix("folder/")));
            same(got.completionFuture().join().failedTransfers().size(), 0);
            same(Files.readAllBytes(back.resolve("deeper/one é")), data);
        });
        check(style + " paginators", () -> {
            long found = s3.listObjectsV2Paginator(request -> request.bucket(bucket).maxKeys(2)).contents().stream().count();
            same(found, AWKWARD.size() + 4L);
        });
        check(style + " copy and tags", () -> {
            Tagging tags = Tagging.builder().tagSet(Tag.builder().key("a").value("b").build()).build();
            s3.copyObject(request -> request.sourceBucket(bucket).sourceKey("é/ü").destinationBucket(bucket).destinationKey("copy")
                .tagging(tags).taggingDirective(TaggingDirective.REPLACE));
            same(s3.getObjectTagging(request -> request.bucket(bucket).key("copy")).tagSet(), tags.tagSet());
        });
        check(style + " conditions", () -> {
            s3.putObject(request -> request.bucket(bucket).key("once").ifNoneMatch("*"), RequestBody.fromString("1"));
            refused("PreconditionFailed", () ->
                s3.putObject(request -> request.bucket(bucket).key("once").ifNoneMatch("*"), RequestBody.fromString("2")));
        });
        check(style + " what is missing", () -> {
            refused("NoSuchKey", () -> s3.getObjectAsBytes(request -> request.bucket(bucket).key("nothing")));
            refused("NoSuchBucket", () -> s3.listObjectsV2(request -> request.bucket(bucket + "-none")));
        });
        check(style + " presigned", () -> {
            var settings = S3Configuration.builder().pathStyleAccessEnabled(path).build();
            try (S3Presigner presigner = S3Presigner.builder().endpointOverride(endpoint).serviceConfiguration(settings).build()) {
                var put = presigner.presignPutObject(r -> r.signatureDuration(Duration.ofMinutes(1)).putObjectRequest(p -> p.bucket(bucket).key("p é")));
                same(fetch(HttpRequest.newBuilder(put.url().toURI()).PUT(HttpRequest.BodyPublishers.ofString("presigned")).build()), "");
                var get = presigner.presignGetObject(r -> r.signatureDuration(Duration.ofMinutes(1)).getObjectRequest(g -> g.bucket(bucket).key("p é")));
                same(fetch(HttpRequest.newBuilder(get.url().toURI()).build()), "presigned");
            }
        });
        check(style + " versions", () -> {
            s3.putBucketVersioning(request -> request.bucket(bucket).versioningConfiguration(v -> v.status(BucketVersioningStatus.ENABLED)));
            s3.putObject(request -> request.bucket(bucket).key("a b"), RequestBody.fromString("newer"));
            same(s3.listObjectVersions(request -> request.bucket(bucket).prefix("a b")).versions().size(), 2);
        });
        check(style + " remove all", () -> {
            var all = s3.listObjectVersions(request -> request.bucket(bucket)).versions().stream()
                .map(version -> ObjectIdentifier.builder().key(version.key()).versionId(version.versionId()).build()).toList();
            same(s3.deleteObjects(request -> request.bucket(bucket).delete(d -> d.objects(all))).deleted().size(), all.size());
            s3.deleteBucket(request -> request.bucket(bucket));
            s3.waiter().waitUntilBucketNotExists(request -> request.bucket(bucket));
        });
    }

    static void refused(String code, Work work) throws Exception {
        try {
            work.run();
        } catch (S3Exception error) {
            same(error.awsErrorDetails().errorCode(), code);
            return;
        }
        throw new AssertionError("nothing was refused");
    }

    static String fetch(HttpRequest request) throws Exception {
        var answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString(StandardCharsets.UTF_8));
        same(answer.statusCode(), 200);
        return answer.body();
    }
}
