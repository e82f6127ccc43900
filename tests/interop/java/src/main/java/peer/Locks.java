package peer;

import com.amazonaws.services.dynamodbv2.AcquireLockOptions;
import com.amazonaws.services.dynamodbv2.AcquireLockOptions.AcquireLockOptionsBuilder;
import com.amazonaws.services.dynamodbv2.AmazonDynamoDBLockClient;
import com.amazonaws.services.dynamodbv2.AmazonDynamoDBLockClientOptions;
import com.amazonaws.services.dynamodbv2.LockItem;
import com.amazonaws.services.dynamodbv2.ReleaseLockOptions;
import com.amazonaws.services.dynamodbv2.SendHeartbeatOptions;
import com.amazonaws.services.dynamodbv2.model.LockCurrentlyUnavailableException;
import com.amazonaws.services.dynamodbv2.model.LockNotGrantedException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.http.urlconnection.UrlConnectionHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.dynamodb.DynamoDbClient;
import software.amazon.awssdk.services.dynamodb.model.AttributeValue;

/** Amazon's lock client, set up as the protocol wants it and otherwise left at its defaults. */
final class Locks {
  private static final String ARTIFACT = "dynamodb-lock-client";

  private final AmazonDynamoDBLockClient client;
  private final Settings settings;

  Locks(Settings settings) {
    this.settings = settings;
    DynamoDbClient dynamoDb =
        DynamoDbClient.builder()
            .endpointOverride(settings.endpoint())
            .region(Region.US_EAST_1)
            .credentialsProvider(StaticCredentialsProvider.create(AwsBasicCredentials.create("peer", "peer")))
            .httpClient(UrlConnectionHttpClient.create())
            .build();
    client =
        new AmazonDynamoDBLockClient(
            AmazonDynamoDBLockClientOptions.builder(dynamoDb, settings.table())
                .withOwnerName(settings.owner())
                .withTimeUnit(TimeUnit.MILLISECONDS)
                .withLeaseDuration(settings.leaseMs())
                // Without the thread the client never looks at the period, so 0 is as good as any.
                .withHeartbeatPeriod(settings.heartbeatMs())
                .withCreateHeartbeatBackgroundThread(settings.heartbeatMs() > 0)
                .build());
  }

  /** Name and version of the client that really runs, rather than of the one that was asked for. */
  static String nameAndVersion() throws IOException {
    try (InputStream stream =
        AmazonDynamoDBLockClient.class.getResourceAsStream("/META-INF/maven/com.amazonaws/" + ARTIFACT + "/pom.properties")) {
      Properties properties = new Properties();
      properties.load(stream);
      return ARTIFACT + " " + properties.getProperty("version");
    }
  }

  /** Empty when the time to wait is over, to which this client adds the lease of the record it finds. */
  Optional<LockItem> acquire(String key, long waitMs, Optional<ByteBuffer> data, Map<String, AttributeValue> attributes)
      throws InterruptedException {
    AcquireLockOptionsBuilder options =
        options(key).withAdditionalTimeToWaitForLock(waitMs).withAdditionalAttributes(attributes);
    data.ifPresent(bytes -> options.withData(bytes).withReplaceData(true));
    return client.tryAcquireLock(options.build());
  }

  Optional<LockItem> tryOnce(String key) throws InterruptedException {
    AcquireLockOptions options =
        // No time to wait, because even then the client sleeps and looks again when another one was faster.
        options(key).withShouldSkipBlockingWait(true).withAdditionalTimeToWaitForLock(0L).build();
    try {
      return client.tryAcquireLock(options);
    } catch (LockCurrentlyUnavailableException held) {
      return Optional.empty();
    }
  }

  private AcquireLockOptionsBuilder options(String key) {
    return AcquireLockOptions.builder(key)
        .withTimeUnit(TimeUnit.MILLISECONDS)
        .withRefreshPeriod(settings.refreshMs())
        .withReplaceData(false)
        .withDeleteLockOnRelease(false)
        .withUpdateExistingLockRecord(settings.updateExisting());
  }

  /** Whether the lock is still ours; data that is not there is left alone. */
  boolean beat(LockItem item, Optional<ByteBuffer> data, boolean deleteData) {
    try {
      client.sendHeartbeat(
          SendHeartbeatOptions.builder(item).withData(data.orElse(null)).withDeleteData(deleteData).build());
      return true;
    } catch (LockNotGrantedException lost) {
      return false;
    }
  }

  boolean release(LockItem item, boolean delete) {
    return client.releaseLock(ReleaseLockOptions.builder(item).withDeleteLock(delete).build());
  }

  Optional<LockItem> get(String key) {
    return client.getLock(key, Optional.empty());
  }
}
