using k8s.Models;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Testing;
using Prometheus;

namespace PciOperator.Tests.Monitoring;

/// <summary>Each step of a claim's way is counted once, whoever writes the statuses and however often a controller starts.</summary>
public sealed class ClaimTimesTests
{
    private readonly FakeTimeProvider _time = new();
    private readonly CollectorRegistry _metrics = Metrics.NewCustomRegistry();
    private ClaimTimes _times;
    private PassthroughClaim _claim;

    public ClaimTimesTests()
    {
        _times = new ClaimTimes(_metrics, _time);
        _claim = new PassthroughClaim
        {
            Metadata = new V1ObjectMeta
            {
                Name = "a",
                NamespaceProperty = "default",
                CreationTimestamp = _time.GetUtcNow().UtcDateTime,
            },
        };
    }

    [Fact]
    public void The_steps_are_counted_from_the_conditions_times()
    {
        After(5, ClaimStatus.Pending(_claim, "NoNodeFits", "", _time.GetUtcNow()));
        Assert.Equal((0, 0, 0), Counts());

        AfterPlaced(25);
        Assert.Equal(30, Sum("created_to_placed"));
        After(12, With(Conditions.Ready, true));
        Assert.Equal(12, Sum("placed_to_ready"));
        After(8, With(Conditions.InUse, true));
        Assert.Equal(8, Sum("ready_to_in_use"));
        Assert.Equal((1, 1, 1), Counts());
    }

    [Fact]
    public void What_comes_again_is_not_counted_again_also_by_a_controller_that_has_just_started()
    {
        AfterPlaced(10);
        After(10, With(Conditions.Ready, true));
        After(10, With(Conditions.InUse, true));
        After(10, With(Conditions.InUse, false));

        // Nothing of what it knows is its own.
        _times = new ClaimTimes(_metrics, _time);
        After(10, With(Conditions.InUse, true));
        After(10, With(Conditions.Ready, false));
        After(10, With(Conditions.Ready, true));
        Assert.Equal((1, 1, 1), Counts());
    }

    [Fact]
    public void A_claim_that_lost_its_node_waits_anew_from_then_on()
    {
        AfterPlaced(10);
        After(1000, ClaimStatus.Pending(_claim, "NoNodeFits", "", _time.GetUtcNow().AddSeconds(1000)));
        After(5, ClaimStatus.Pending(_claim, "AliasNotFound", "", _time.GetUtcNow().AddSeconds(5)));
        AfterPlaced(15);
        Assert.Equal(10 + 20, Sum("created_to_placed"));
        Assert.Equal((2, 0, 0), Counts());
    }

    [Fact]
    public void A_placement_that_was_first_said_when_the_devices_were_ready_counts_from_when_it_was_made()
    {
        PassthroughClaimStatus status = Placed(_time.GetUtcNow().AddSeconds(20));
        _time.Advance(TimeSpan.FromSeconds(20));
        _times.Count(
            _claim,
            status with
            {
                Conditions = status.Conditions.With(Conditions.Ready, true, "Ready", "", 1, _time.GetUtcNow()),
            },
            unsaid: TimeSpan.FromSeconds(8)
        );
        Assert.Equal((12, 8), (Sum("created_to_placed"), Sum("placed_to_ready")));
    }

    [Fact]
    public async Task A_controller_that_takes_over_counts_only_what_comes_after()
    {
        await using LabCluster lab = await LabCluster.StartAsync(real: false, controller: false);
        Func<Task> stop = lab.Cluster.StartController(LabCluster.Quick);
        await (await lab.WithNodesAsync(1)).WithSamplesAsync();
        await lab.ClaimAsync("first", "a1:1");
        await lab.ReadyAsync("first");
        Assert.Equal((1, 1, 0), Counts(lab.Cluster.ControllerMetrics));
        await stop();

        lab.Cluster.StartController(LabCluster.Quick);
        await lab.ClaimAsync("second", "a1:1");
        await lab.ReadyAsync("second");
        Assert.Equal((1, 1, 0), Counts(lab.Cluster.ControllerMetrics));
    }

    private void AfterPlaced(int seconds) => After(seconds, Placed(_time.GetUtcNow().AddSeconds(seconds)));

    private PassthroughClaimStatus Placed(DateTimeOffset now) =>
        (_claim.Status ?? new PassthroughClaimStatus()) with
        {
            NodeName = "node-1",
            Conditions = (_claim.Status?.Conditions)
                .With(Conditions.Scheduled, true, "Placed", "", 1, now)
                .With(Conditions.Prepared, false, "Preparing", "", 1, now)
                .With(Conditions.Ready, false, "Preparing", "", 1, now)
                .With(Conditions.InUse, false, "NotInUse", "", 1, now),
        };

    /// <summary>The claim's status with one condition, as it is after the time that is given to After.</summary>
    private Func<DateTimeOffset, PassthroughClaimStatus> With(string type, bool status) =>
        now => _claim.Status! with { Conditions = _claim.Status.Conditions.With(type, status, "Word", "", 1, now) };

    private void After(int seconds, PassthroughClaimStatus status) => After(seconds, _ => status);

    private void After(int seconds, Func<DateTimeOffset, PassthroughClaimStatus> status)
    {
        _time.Advance(TimeSpan.FromSeconds(seconds));
        PassthroughClaimStatus now = status(_time.GetUtcNow());
        _times.Count(_claim, now, unsaid: TimeSpan.Zero);
        _claim = _claim with { Status = now };
    }

    private double Sum(string step) => Value(_metrics, $"pcioperator_claim_{step}_seconds_sum");

    private (double Placed, double Ready, double InUse) Counts() => Counts(_metrics);

    private static (double Placed, double Ready, double InUse) Counts(CollectorRegistry metrics) =>
        (
            Value(metrics, "pcioperator_claim_created_to_placed_seconds_count"),
            Value(metrics, "pcioperator_claim_placed_to_ready_seconds_count"),
            Value(metrics, "pcioperator_claim_ready_to_in_use_seconds_count")
        );

    private static double Value(CollectorRegistry metrics, string name) =>
        double.Parse(
            MetricNameTests.Text(metrics).Split('\n').Single(l => l.StartsWith(name + " ", StringComparison.Ordinal)).Split(' ')[1],
            System.Globalization.CultureInfo.InvariantCulture
        );
}
