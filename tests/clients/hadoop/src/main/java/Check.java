// What Hadoop's S3A does: a file system, and the committers of jobs. Arguments: endpoint; credentials from the environment.

import java.io.FileNotFoundException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.UUID;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.LocatedFileStatus;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.RemoteIterator;
import org.apache.hadoop.io.IOUtils;
import org.apache.hadoop.io.Text;
import org.apache.hadoop.mapreduce.Job;
import org.apache.hadoop.mapreduce.JobID;
import org.apache.hadoop.mapreduce.RecordWriter;
import org.apache.hadoop.mapreduce.TaskAttemptContext;
import org.apache.hadoop.mapreduce.TaskAttemptID;
import org.apache.hadoop.mapreduce.TaskID;
import org.apache.hadoop.mapreduce.TaskType;
import org.apache.hadoop.mapreduce.lib.output.FileOutputFormat;
import org.apache.hadoop.mapreduce.lib.output.PathOutputCommitter;
import org.apache.hadoop.mapreduce.lib.output.TextOutputFormat;
import org.apache.hadoop.mapreduce.task.JobContextImpl;
import org.apache.hadoop.mapreduce.task.TaskAttemptContextImpl;
import software.amazon.awssdk.services.s3.S3Client;

public class Check extends Checking {
    static Configuration settings(String endpoint) {
        Configuration settings = new Configuration();
        settings.set("fs.s3a.endpoint", endpoint);
        settings.set("fs.s3a.endpoint.region", "us-east-1");
        settings.set("fs.s3a.access.key", System.getenv("AWS_ACCESS_KEY_ID"));
        settings.set("fs.s3a.secret.key", System.getenv("AWS_SECRET_ACCESS_KEY"));
        settings.setBoolean("fs.s3a.path.style.access", true);
        settings.setBoolean("fs.s3a.connection.ssl.enabled", false);
        settings.set("fs.s3a.multipart.size", "5M");
        settings.set("fs.s3a.multipart.threshold", "8M");
        settings.setInt("fs.s3a.attempts.maximum", 1); // what fails once is told, not tried again
        settings.set("hadoop.tmp.dir", System.getProperty("java.io.tmpdir") + "/shardgate-client-" + UUID.randomUUID());
        return settings;
    }

    static void write(FileSystem files, Path path, byte[] data) throws Exception {
        try (FSDataOutputStream out = files.create(path, true)) {
            out.write(data);
        }
    }

    static byte[] read(FileSystem files, Path path) throws Exception {
        byte[] data = new byte[(int) files.getFileStatus(path).getLen()];
        try (FSDataInputStream in = files.open(path)) {
            IOUtils.readFully(in, data, 0, data.length);
        }
        return data;
    }

    static List<String> names(FileSystem files, Path folder) throws Exception {
        List<String> found = new ArrayList<>();
        RemoteIterator<LocatedFileStatus> all = files.listFiles(folder, true);
        while (all.hasNext()) found.add(all.next().getPath().toUri().getPath());
        found.sort(null);
        return found;
    }

    public static void main(String[] arguments) throws Exception {
        Configuration settings = settings(arguments[0]);
        String name = "hadoop-" + UUID.randomUUID();
        try (S3Client s3 = S3Client.builder().endpointOverride(URI.create(arguments[0])).forcePathStyle(true).build()) {
            s3.createBucket(request -> request.bucket(name));
        }
        URI bucket = URI.create("s3a://" + name);
        try (FileSystem files = FileSystem.newInstance(bucket, settings)) {
            exercise(files, new Path(bucket + "/files"));
        }
        for (String committer : List.of("magic", "directory", "partitioned")) {
            check("committer " + committer, () -> commit(settings, committer, new Path(bucket + "/job=" + committer + "/day=1")));
        }
        finish();
    }

    static void exercise(FileSystem files, Path root) throws Exception {
        byte[] large = random(17 << 20);
        check("write, status, read", () -> {
            for (String name : List.of("a b", "a+b", "100%", "é", "semi;colon")) {
                Path path = new Path(root, name);
                write(files, path, name.getBytes(StandardCharsets.UTF_8));
                same(new String(read(files, path), StandardCharsets.UTF_8), name);
            }
        });
        check("a file of several parts", () -> {
            write(files, new Path(root, "large"), large);
            same(read(files, new Path(root, "large")), large);
        });
        check("seek, and several ranges at once", () -> {
            try (FSDataInputStream in = files.open(new Path(root, "large"))) {
                byte[] some = new byte[1000];
                for (int at : new int[] {16_000_000, 7, 9_999_999}) {
                    in.readFully(at, some);
                    same(some, Arrays.copyOfRange(large, at, at + 1000));
                }
            }
        });
        check("create without overwriting", () -> {
            try {
                files.create(new Path(root, "large"), false).close();
            } catch (org.apache.hadoop.fs.FileAlreadyExistsException expected) {
                return;
            }
            throw new AssertionError("it was overwritten");
        });
        check("folders", () -> {
            Path folder = new Path(root, "x/y/z");
            same(files.mkdirs(folder), true);
            same(files.getFileStatus(folder).isDirectory(), true);
            same(files.listStatus(folder).length, 0);
            write(files, new Path(folder, "one"), new byte[] {1});
            same(files.listStatus(new Path(root, "x")).length, 1);
        });
        check("rename a folder", () -> {
            same(files.rename(new Path(root, "x"), new Path(root, "moved")), true);
            same(files.exists(new Path(root, "x")), false);
            same(names(files, new Path(root, "moved")), List.of(root.toUri().getPath() + "/moved/y/z/one"));
        });
        check("rename a file of several parts", () -> {
            same(files.rename(new Path(root, "large"), new Path(root, "large2")), true);
            same(read(files, new Path(root, "large2")), large);
        });
        check("what is missing", () -> {
            try {
                files.getFileStatus(new Path(root, "nothing"));
            } catch (FileNotFoundException expected) {
                return;
            }
            throw new AssertionError("found");
        });
        check("remove a folder", () -> {
            same(files.delete(root, true), true);
            same(files.exists(root), false);
        });
    }

    /** Two tasks write, one of them in two attempts of which the first is given up; then the job is committed. */
    static void commit(Configuration common, String name, Path output) throws Exception {
        Configuration settings = new Configuration(common);
        settings.set("mapreduce.outputcommitter.factory.scheme.s3a", "org.apache.hadoop.fs.s3a.commit.S3ACommitterFactory");
        settings.set("fs.s3a.committer.name", name);
        settings.set("fs.s3a.committer.staging.conflict-mode", "replace");
        settings.set("mapreduce.job.application.attempt.id", "0");
        settings.set("fs.s3a.committer.uuid", UUID.randomUUID().toString());
        settings.set("fs.defaultFS", "file:///"); // where the staging committers keep what is pending
        settings.set("fs.s3a.committer.staging.tmp.path", settings.get("hadoop.tmp.dir") + "/staging");
        Job job = Job.getInstance(settings);
        FileOutputFormat.setOutputPath(job, output);
        JobID id = new JobID("job", 1);
        var jobContext = new JobContextImpl(job.getConfiguration(), id);
        PathOutputCommitter committer = null;
        for (int task = 0; task < 2; task++) {
            for (int attempt = task; attempt < 2; attempt++) {
                var attemptId = new TaskAttemptID(new TaskID(id, TaskType.REDUCE, task), attempt);
                TaskAttemptContext context = new TaskAttemptContextImpl(job.getConfiguration(), attemptId);
                TextOutputFormat<Text, Text> format = new TextOutputFormat<>();
                var working = (PathOutputCommitter) format.getOutputCommitter(context);
                same(working.getClass().getSimpleName().toLowerCase().contains(name), true);
                if (committer == null) {
                    committer = working;
                    committer.setupJob(jobContext);
                }
                working.setupTask(context);
                context.getConfiguration().set("mapreduce.output.basename", name.equals("partitioned") ? "hour=" + task + "/part" : "part");
                RecordWriter<Text, Text> writer = format.getRecordWriter(context);
                for (int line = 0; line < 1000; line++) writer.write(new Text("task " + task), new Text("line " + line));
                writer.close(context);
                if (task == 0 && attempt == 0) {
                    working.abortTask(context);
                } else {
                    same(working.needsTaskCommit(context), true);
                    working.commitTask(context);
                }
            }
        }
        FileSystem files = output.getFileSystem(settings);
        same(files.exists(output) && names(files, output).stream().anyMatch(path -> path.contains("/part-r-") && !path.contains("__magic")), false);
        committer.commitJob(jobContext);
        List<String> found = names(files, output);
        same(found.stream().filter(path -> path.contains("/part-r-")).count(), 2L);
        same(found.stream().anyMatch(path -> path.contains("__magic")), false);
        same(found.contains(output.toUri().getPath() + "/_SUCCESS"), true);
        for (String path : found) {
            if (path.contains("/part-r-")) same(new String(read(files, new Path(output, path)), StandardCharsets.UTF_8).lines().count(), 1000L);
        }
    }
}
