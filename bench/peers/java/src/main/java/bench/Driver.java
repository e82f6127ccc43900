package bench;

import com.amazonaws.services.dynamodbv2.LockItem;
import java.util.Iterator;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** Executes commands, and asks all the time what is still held: without a session monitor this client tells nothing by itself. */
final class Driver {
  /** How many acquisitions of {@code hold} are under way at once. */
  private static final int AT_ONCE = 16;

  /** Two looks further apart than this had a pause between them. */
  private static final long PAUSE_NANOS = 200_000_000;

  private final Locks locks;
  private final Events events;
  private final Map<String, LockItem> held = new ConcurrentHashMap<>();

  Driver(Locks locks, Events events) {
    this.locks = locks;
    this.events = events;
  }

  void execute(String command) {
    long asked = System.nanoTime();
    try {
      String[] words = command.split(" ", -1);
      switch (words[0] + "/" + (words.length - 1)) {
        case "acquire/1" -> acquire(words[1], asked);
        case "try/1" -> attempt(words[1], asked);
        case "release/1" -> release(words[1], asked, false);
        case "release/2" -> release(words[1], asked, true);
        case "hold/2" -> hold(words[1], Integer.parseInt(words[2]), asked);
        case "follow/2" -> follow(words[1], Integer.parseInt(words[2]), asked);
        case "status/0" -> events.status(held.values().stream().filter(item -> !item.isExpired()).count());
        default -> throw new IllegalArgumentException("not a command");
      }
    } catch (Throwable trouble) { // even an Error: without an answer the harness would wait
      events.error(command, trouble);
    }
  }

  private void acquire(String key, long asked) throws InterruptedException {
    keep(key, asked, locks.acquire(key));
  }

  private void attempt(String key, long asked) throws InterruptedException {
    Optional<LockItem> item = locks.attempt(key);
    if (item.isPresent()) {
      keep(key, asked, item.get());
    } else {
      events.done("refused", System.nanoTime(), asked, key);
    }
  }

  private void keep(String key, long asked, LockItem item) {
    long at = System.nanoTime();
    held.put(key, item);
    events.done("acquired", at, asked, key);
  }

  private void release(String key, long asked, boolean keep) {
    LockItem item = held.remove(key);
    if (item == null || !locks.release(item, keep)) {
      throw new IllegalStateException("not held");
    }
    events.done("released", System.nanoTime(), asked, key);
  }

  private void hold(String prefix, int count, long asked) {
    ExecutorService pool = Executors.newFixedThreadPool(AT_ONCE);
    for (int number = 0; number < count; number++) {
      String key = prefix + number;
      pool.execute(
          () -> {
            try {
              acquire(key, asked);
            } catch (Throwable trouble) {
              events.error("acquire " + key, trouble);
            }
          });
    }
    pool.shutdown();
  }

  /** Each with a client and a thread of its own, which the heartbeats of the others do not share. */
  private void follow(String key, int count, long asked) {
    for (int number = 0; number < count; number++) {
      Locks another = locks.another(number);
      Thread waits =
          new Thread(
              () -> {
                try {
                  keep(key, asked, another.acquire(key));
                } catch (Throwable trouble) {
                  events.error("follow " + key, trouble);
                }
              });
      waits.setDaemon(true);
      waits.start();
    }
    events.following(System.nanoTime(), asked, key, count);
  }

  /** A look that changes its answer, or comes after a pause, is told. What is not held any more is not looked at again. */
  void look(long everyMs) {
    long last = System.nanoTime();
    while (true) {
      long at = System.nanoTime();
      long pause = at - last;
      last = at;
      for (Iterator<Map.Entry<String, LockItem>> entries = held.entrySet().iterator(); entries.hasNext(); ) {
        Map.Entry<String, LockItem> entry = entries.next();
        long from = System.nanoTime();
        boolean holds = !entry.getValue().isExpired();
        if (!holds || pause > PAUSE_NANOS) {
          events.look(from, entry.getKey(), holds, pause);
        }
        if (!holds && held.remove(entry.getKey(), entry.getValue())) {
          events.lost(from, entry.getKey());
        }
      }
      try {
        Thread.sleep(everyMs);
      } catch (InterruptedException ended) {
        return;
      }
    }
  }
}
