package bench;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** Amazon's DynamoDB lock client as a driver, see bench/README.md. */
public final class Main {
  private Main() {}

  public static void main(String[] arguments) throws IOException {
    Settings settings = Settings.from(System.getenv());
    Events events = new Events();
    Driver driver = new Driver(new Locks(settings), events);
    Thread looks = new Thread(() -> driver.look(settings.lookMs()), "looks");
    looks.setDaemon(true);
    looks.start();
    events.ready(Locks.NAME, Locks.version(), "keep");

    ExecutorService commands = Executors.newCachedThreadPool();
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = input.readLine(); line != null && !line.equals("quit"); line = input.readLine()) {
      String command = line;
      commands.execute(() -> driver.execute(command));
    }
    // Not exit: nothing may run any more that could touch a lock.
    Runtime.getRuntime().halt(0);
  }
}
