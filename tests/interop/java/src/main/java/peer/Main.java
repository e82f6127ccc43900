package peer;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** A process that speaks PROTOCOL.md for Amazon's DynamoDB lock client. */
public final class Main {
  private Main() {}

  public static void main(String[] arguments) throws IOException {
    Locks locks = new Locks(Settings.from(System.getenv()));
    Lines lines = new Lines();
    Peer peer = new Peer(locks, lines);
    lines.print("ready " + Locks.nameAndVersion());

    // Commands run on a thread of their own, so that the end of the input is noticed while one of them waits or contends.
    ExecutorService worker = Executors.newSingleThreadExecutor();
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      String command = line;
      worker.execute(() -> peer.execute(command));
    }
    // Not exit: nothing may run any more that could touch a lock.
    Runtime.getRuntime().halt(0);
  }
}
