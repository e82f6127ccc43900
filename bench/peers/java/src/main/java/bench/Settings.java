package bench;

import java.net.URI;
import java.time.Duration;
import java.util.Map;
import java.util.Optional;

/** What the environment asks for, see bench/README.md. */
record Settings(
    URI endpoint,
    String table,
    String owner,
    long leaseMs,
    long heartbeatMs,
    long lookMs,
    Optional<Long> pollMs,
    Optional<Duration> attemptTimeout) {

  static Settings from(Map<String, String> environment) {
    return new Settings(
        URI.create(required(environment, "PEER_ENDPOINT")),
        required(environment, "PEER_TABLE"),
        required(environment, "PEER_OWNER"),
        Long.parseLong(required(environment, "PEER_LEASE_MS")),
        Long.parseLong(required(environment, "PEER_HEARTBEAT_MS")),
        Long.parseLong(environment.getOrDefault("PEER_LOOK_MS", "5")),
        Optional.ofNullable(environment.get("PEER_POLL_MS")).map(Long::valueOf),
        Optional.ofNullable(environment.get("PEER_ATTEMPT_TIMEOUT_MS")).map(Long::valueOf).map(Duration::ofMillis));
  }

  Settings ownedBy(String another) {
    return new Settings(endpoint, table, another, leaseMs, heartbeatMs, lookMs, pollMs, attemptTimeout);
  }

  private static String required(Map<String, String> environment, String name) {
    String value = environment.get(name);
    if (value == null) {
      throw new IllegalArgumentException(name + " is not set");
    }
    return value;
  }
}
