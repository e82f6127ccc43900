package peer;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

/** The lines that go to the driver, each of them flushed. */
final class Lines {
  private final PrintStream stream =
      new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);

  void print(String line) {
    stream.println(line);
  }

  void error(Throwable trouble) {
    String text = trouble.getClass().getSimpleName() + ": " + trouble.getMessage();
    print("error " + text.replaceAll("\\s+", " "));
  }
}
