package bench;

import com.amazonaws.services.dynamodbv2.AcquireLockOptions;
import com.amazonaws.services.dynamodbv2.AcquireLockOptions.AcquireLockOptionsBuilder;
import com.amazonaws.services.dynamodbv2.AmazonDynamoDBLockClient;
import com.amazonaws.services.dynamodbv2.AmazonDynamoDBLockClientOptions;
import com.amazonaws.services.dynamodbv2.LockItem;
import com.amazonaws.services.dynamodbv2.ReleaseLockOptions;
import com.amazonaws.services.dynamodbv2.model.LockCurrentlyUnavailableException;
import java.io.IOException;
import java.io.InputStream;
import java.util.Optional;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.dynamodb.DynamoDbClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbClientBuilder;

/** The lock client at its defaults, but for what a scenario fixes. */
final class Locks {
  static final String NAME = "dynamodb-lock-client";

  /** To follow is to wait for as long as it takes. */
  private static final long FOR_EVER_MS = TimeUnit.DAYS.toMillis(1);

  private final AmazonDynamoDBLockClient client;
  private final Settings settings;

  Locks(Settings settings) {
    this.settings = settings;
    DynamoDbClientBuilder dynamoDb =
        DynamoDbClient.builder()
            .endpointOverride(settings.endpoint())
            .region(Region.US_EAST_1)
            .credentialsProvider(StaticCredentialsProvider.create(AwsBasicCredentials.create("bench", "bench")));
    settings
        .attemptTimeout()
        .ifPresent(timeout -> dynamoDb.overrideConfiguration(override -> override.apiCallAttemptTimeout(timeout)));
    client =
        new AmazonDynamoDBLockClient(
            AmazonDynamoDBLockClientOptions.builder(dynamoDb.build(), settings.table())
                .withOwnerName(settings.owner())
                .withTimeUnit(TimeUnit.MILLISECONDS)
                .withLeaseDuration(settings.leaseMs())
                .withHeartbeatPeriod(settings.heartbeatMs())
                .withCreateHeartbeatBackgroundThread(true)
                .build());
  }

  /** A client of its own with the same settings and another name. */
  Locks another(int number) {
    return new Locks(settings.ownedBy(settings.owner() + "-" + number));
  }

  /** Of the client that really runs, rather than of the one that was asked for. */
  static String version() throws IOException {
    try (InputStream stream =
        AmazonDynamoDBLockClient.class.getResourceAsStream("/META-INF/maven/com.amazonaws/" + NAME + "/pom.properties")) {
      Properties properties = new Properties();
      properties.load(stream);
      return properties.getProperty("version");
    }
  }

  LockItem acquire(String key) throws InterruptedException {
    return client.acquireLock(options(key).withAdditionalTimeToWaitForLock(FOR_EVER_MS).build());
  }

  Optional<LockItem> attempt(String key) throws InterruptedException {
    try {
      return client.tryAcquireLock(
          options(key).withShouldSkipBlockingWait(true).withAdditionalTimeToWaitForLock(0L).build());
    } catch (LockCurrentlyUnavailableException held) {
      return Optional.empty();
    }
  }

  private AcquireLockOptionsBuilder options(String key) {
    AcquireLockOptionsBuilder options = AcquireLockOptions.builder(key).withTimeUnit(TimeUnit.MILLISECONDS);
    settings.pollMs().ifPresent(options::withRefreshPeriod);
    return options;
  }

  boolean release(LockItem item, boolean keep) {
    return keep
        ? client.releaseLock(ReleaseLockOptions.builder(item).withDeleteLock(false).build())
        : client.releaseLock(item);
  }
}
