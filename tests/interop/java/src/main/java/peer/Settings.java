package peer;

import java.net.URI;
import java.util.Map;

/** What the environment asks for, see PROTOCOL.md. */
record Settings(
    URI endpoint, String table, String owner, long leaseMs, long heartbeatMs, long refreshMs, boolean updateExisting) {

  static Settings from(Map<String, String> environment) {
    return new Settings(
        URI.create(required(environment, "PEER_ENDPOINT")),
        required(environment, "PEER_TABLE"),
        required(environment, "PEER_OWNER"),
        Long.parseLong(required(environment, "PEER_LEASE_MS")),
        Long.parseLong(required(environment, "PEER_HEARTBEAT_MS")),
        Long.parseLong(required(environment, "PEER_REFRESH_MS")),
        // Of this client only: it has two ways to write an acquisition, which differ in what they keep of a record.
        environment.getOrDefault("PEER_UPDATE_EXISTING", "0").equals("1"));
  }

  private static String required(Map<String, String> environment, String name) {
    String value = environment.get(name);
    if (value == null) {
      throw new IllegalArgumentException(name + " is not set");
    }
    return value;
  }
}
