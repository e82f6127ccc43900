package peer;

import com.amazonaws.services.dynamodbv2.LockItem;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;

/** Takes a lock again and again, and tells when it believes to hold it. */
final class Contender {
  private static final long WAIT_MS = TimeUnit.HOURS.toMillis(1);
  private static final long TICK_MS = 5;

  private final Locks locks;
  private final Lines lines;
  private final String key;
  private final long holdMs;
  private final long pauseMs;

  Contender(Locks locks, Lines lines, String key, long holdMs, long pauseMs) {
    this.locks = locks;
    this.lines = lines;
    this.key = key;
    this.holdMs = holdMs;
    this.pauseMs = pauseMs;
  }

  void runForever() throws InterruptedException {
    while (true) {
      try {
        takeATurn();
      } catch (RuntimeException trouble) {
        lines.error(trouble);
      }
      Thread.sleep(pauseMs);
    }
  }

  private void takeATurn() throws InterruptedException {
    Optional<LockItem> acquired = locks.acquire(key, WAIT_MS, Optional.empty(), Map.of());
    if (acquired.isEmpty()) {
      lines.print("error refused");
      return;
    }
    hold(acquired.get());
    if (!locks.release(acquired.get(), false)) {
      lines.print("error lost before the release");
    }
  }

  private void hold(LockItem item) throws InterruptedException {
    long from = System.nanoTime();
    lines.print("from " + from + " -");
    long holdNanos = TimeUnit.MILLISECONDS.toNanos(holdMs);
    while (true) {
      // Read before the client is asked, so that a pause in between can't date its answer later than it was given.
      long now = System.nanoTime();
      if (now - from >= holdNanos || item.isExpired()) {
        break;
      }
      lines.print("tick " + now);
      Thread.sleep(TICK_MS);
    }
    lines.print("to " + System.nanoTime());
  }
}
