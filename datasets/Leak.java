import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Map;
import java.util.Random;

/**
 * A JVM service whose requests make garbage, fill a session cache of bounded size and, where asked, keep a little for ever: memory
 * goes as the collector takes and returns it.
 *
 * usage: java [-Xmx..] Leak.java KEEP_KIB_PER_S GARBAGE_KIB_PER_S SECONDS
 */
public class Leak {
    private static final int PER_SECOND = 50;

    public static void main(String[] args) throws InterruptedException {
        double keep = Double.parseDouble(args[0]) * 1024 / PER_SECOND;
        double garbage = Double.parseDouble(args[1]) * 1024 / PER_SECOND;
        long end = System.nanoTime() + (long) (Double.parseDouble(args[2]) * 1e9);
        Random dice = new Random(7);
        ArrayList<byte[]> kept = new ArrayList<>();
        Map<Integer, byte[]> sessions = new HashMap<>();
        ArrayDeque<Integer> oldest = new ArrayDeque<>();
        for (int request = 0; System.nanoTime() < end; request++) {
            byte[] body = new byte[(int) (garbage * (0.5 + dice.nextDouble()))];
            body[body.length - 1] = 1;
            // Sessions outlive a young collection and die old.
            sessions.put(request, new byte[4096 + dice.nextInt(4096)]);
            oldest.add(request);
            if (oldest.size() > 2000) {
                sessions.remove(oldest.poll());
            }
            if (keep > 0) {
                kept.add(new byte[(int) (keep * (0.5 + dice.nextDouble()))]);
            }
            Thread.sleep(1000 / PER_SECOND);
        }
    }
}
