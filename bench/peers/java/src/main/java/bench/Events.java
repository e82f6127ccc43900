package bench;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;

/** The lines that go to the harness, each of them flushed. */
final class Events {
  private final PrintStream stream =
      new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
  private final JsonFactory json = new JsonFactory();

  private interface Fields {
    void write(JsonGenerator line) throws IOException;
  }

  private void print(String event, long at, Fields fields) {
    StringWriter text = new StringWriter();
    try (JsonGenerator line = json.createGenerator(text)) {
      line.writeStartObject();
      line.writeStringField("event", event);
      line.writeNumberField("at", at);
      fields.write(line);
      line.writeEndObject();
    } catch (IOException impossible) {
      throw new UncheckedIOException(impossible);
    }
    stream.println(text);
  }

  void ready(String name, String version, String... offers) {
    print(
        "ready",
        System.nanoTime(),
        line -> {
          line.writeStringField("name", name);
          line.writeStringField("version", version);
          line.writeArrayFieldStart("offers");
          for (String offer : offers) {
            line.writeString(offer);
          }
          line.writeEndArray();
        });
  }

  /** Of a command that was asked for earlier. */
  void done(String event, long at, long asked, String key) {
    print(
        event,
        at,
        line -> {
          line.writeNumberField("asked", asked);
          line.writeStringField("key", key);
        });
  }

  void following(long at, long asked, String key, int count) {
    print(
        "following",
        at,
        line -> {
          line.writeNumberField("asked", asked);
          line.writeStringField("key", key);
          line.writeNumberField("count", count);
        });
  }

  void lost(long at, String key) {
    print("lost", at, line -> line.writeStringField("key", key));
  }

  void look(long at, String key, boolean holds, long pause) {
    print(
        "look",
        at,
        line -> {
          line.writeStringField("key", key);
          line.writeBooleanField("holds", holds);
          line.writeNumberField("pause", pause);
        });
  }

  void status(long holds) {
    print("status", System.nanoTime(), line -> line.writeNumberField("holds", holds));
  }

  void error(String command, Throwable trouble) {
    print(
        "error",
        System.nanoTime(),
        line -> {
          line.writeStringField("command", command);
          line.writeStringField("text", trouble.getClass().getSimpleName() + ": " + trouble.getMessage());
        });
  }
}
