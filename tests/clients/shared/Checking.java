// What every check of a client in Java needs. It is copied beside each Check.java before that is compiled.

import java.util.Arrays;
import java.util.Random;

class Checking {
    interface Work { void run() throws Exception; }

    private static int failed = 0;

    static void check(String name, Work work) {
        try {
            work.run();
            System.out.println("ok   " + name);
        } catch (Throwable error) {
            failed++;
            System.out.println("FAIL " + name + ": " + error);
        }
    }

    static void same(Object found, Object wanted) {
        if (!found.equals(wanted)) throw new AssertionError(found + " is not " + wanted);
    }

    static void same(byte[] found, byte[] wanted) {
        if (!Arrays.equals(found, wanted)) throw new AssertionError(found.length + " bytes are not the " + wanted.length + " that were put");
    }

    static byte[] random(int size) {
        byte[] data = new byte[size];
        new Random(size).nextBytes(data);
        return data;
    }

    static void finish() {
        System.exit(failed > 0 ? 1 : 0);
    }
}
