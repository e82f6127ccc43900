package peer;

import com.amazonaws.services.dynamodbv2.LockItem;
import java.nio.ByteBuffer;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import software.amazon.awssdk.services.dynamodb.model.AttributeValue;

/** Executes the commands of PROTOCOL.md, one after the other. */
final class Peer {
  private static final String NONE = "-";

  private final Locks locks;
  private final Lines lines;

  /**
   * What was acquired and neither given back nor found lost. The protocol's answers need it: to the client, the item of a lock that was
   * released or lost stays unexpired until the end of its lease.
   */
  private final Map<String, LockItem> held = new HashMap<>();

  Peer(Locks locks, Lines lines) {
    this.locks = locks;
    this.lines = lines;
  }

  void execute(String command) {
    try {
      String[] fields = command.split(" ", -1);
      switch (fields[0] + "/" + (fields.length - 1)) {
        case "acquire/4" -> lines.print(acquire(fields[1], Long.parseLong(fields[2]), data(fields[3]), attributes(fields[4])));
        case "try/1" -> lines.print(keep(fields[1], locks.tryOnce(fields[1])));
        case "beat/2" -> lines.print(beat(fields[1], fields[2]));
        case "release/2" -> lines.print(release(fields[1], fields[2]));
        case "believes/1" -> lines.print(believes(fields[1]));
        case "get/1" -> lines.print(locks.get(fields[1]).map(Peer::record).orElse("absent"));
        case "contend/3" ->
            new Contender(locks, lines, fields[1], Long.parseLong(fields[2]), Long.parseLong(fields[3])).runForever();
        default -> throw new IllegalArgumentException("not a command: " + command);
      }
    } catch (Throwable trouble) { // even an Error: without an answer the driver would wait for ever
      lines.error(trouble);
    }
  }

  private String acquire(String key, long waitMs, Optional<ByteBuffer> data, Map<String, AttributeValue> attributes)
      throws InterruptedException {
    return keep(key, locks.acquire(key, waitMs, data, attributes));
  }

  private String keep(String key, Optional<LockItem> acquired) {
    acquired.ifPresent(item -> held.put(key, item));
    return acquired.isPresent() ? "acquired" : "refused";
  }

  private String beat(String key, String change) {
    boolean delete = change.equals("delete");
    LockItem item = held.get(key);
    if (item != null && locks.beat(item, delete ? Optional.empty() : data(change), delete)) {
      return "ok";
    }
    held.remove(key);
    return "lost";
  }

  private String release(String key, String mode) {
    boolean delete =
        switch (mode) {
          case "keep" -> false;
          case "delete" -> true;
          default -> throw new IllegalArgumentException("not a mode: " + mode);
        };
    LockItem item = held.get(key);
    boolean released = item != null && locks.release(item, delete);
    held.remove(key);
    return released ? "released" : "lost";
  }

  private String believes(String key) {
    LockItem item = held.get(key);
    return item != null && !item.isExpired() ? "yes" : "no";
  }

  private static String record(LockItem item) {
    // The third field is always 0: to this client a released record is as good as absent.
    return String.join(
        " ",
        "record",
        item.getOwnerName(),
        Long.toString(item.getLeaseDuration()),
        "0",
        item.isExpired() ? "1" : "0",
        item.getData().map(Peer::base64).orElse(NONE));
  }

  private static Optional<ByteBuffer> data(String field) {
    return field.equals(NONE) ? Optional.empty() : Optional.of(ByteBuffer.wrap(Base64.getDecoder().decode(field)));
  }

  private static String base64(ByteBuffer data) {
    byte[] bytes = new byte[data.remaining()];
    data.duplicate().get(bytes);
    return Base64.getEncoder().encodeToString(bytes);
  }

  private static Map<String, AttributeValue> attributes(String field) {
    Map<String, AttributeValue> attributes = new HashMap<>();
    if (!field.equals(NONE)) {
      for (String attribute : field.split(",")) {
        int equals = attribute.indexOf('=');
        attributes.put(attribute.substring(0, equals), AttributeValue.fromS(attribute.substring(equals + 1)));
      }
    }
    return attributes;
  }
}
