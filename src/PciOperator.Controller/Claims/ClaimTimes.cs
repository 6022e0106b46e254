using System.Collections.Concurrent;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;
using Prometheus;

namespace PciOperator.Controller;

/// <summary>
/// How long the steps of claims' ways take. A step is counted when the status that says it first was written, which one controller of several
/// can do, once: one that starts anew counts nothing again. Times are those of objects and conditions, in whole seconds. In a claim's trace
/// they are the root and its first spans.
/// </summary>
internal sealed class ClaimTimes
{
    private readonly TimeProvider _time;
    private readonly Histogram _placed;
    private readonly Histogram _ready;
    private readonly Histogram _inUse;

    // Claims whose trace has its root, while somebody listens: one that loses its node becomes ready once more.
    private readonly ConcurrentDictionary<string, bool> _rooted = new();

    public ClaimTimes(CollectorRegistry metrics, TimeProvider time)
    {
        _time = time;
        MetricFactory factory = Metrics.WithCustomRegistry(metrics);
        _placed = factory.CreateHistogram(
            "pcioperator_claim_created_to_placed_seconds",
            "Time from a claim's creation, or the loss of the node that it had, until it has a node.",
            HistogramBuckets.Waits
        );
        _ready = factory.CreateHistogram(
            "pcioperator_claim_placed_to_ready_seconds",
            "Time from a claim's placement until a VM or pod can use its devices.",
            HistogramBuckets.Waits
        );
        _inUse = factory.CreateHistogram(
            "pcioperator_claim_ready_to_in_use_seconds",
            "Time from a claim's devices being ready until a pod has them; 0 when the pod was there before.",
            HistogramBuckets.Waits
        );
    }

    /// <summary>A status was written.</summary>
    /// <param name="before">The claim that it replaces.</param>
    /// <param name="now">The status.</param>
    /// <param name="unsaid">How long ago the claim was placed, when no status has said it.</param>
    public void Count(PassthroughClaim before, PassthroughClaimStatus now, TimeSpan unsaid)
    {
        if (before.Metadata.DeletionTimestamp is not null || now.NodeName is not { Length: > 0 } node)
            return;
        IReadOnlyList<V1Condition>? had = before.Status?.NodeName == node ? before.Status.Conditions : null;
        DateTime present = _time.GetUtcNow().UtcDateTime;
        if (had is null && now.Conditions.IsTrue(Conditions.Scheduled))
        {
            _placed.Observe(Seconds(present - unsaid - ClaimStatus.WaitsSince(before)));
            before.Tell(ClaimTrace.Placing, ClaimStatus.WaitsSince(before), present - unsaid, now);
        }

        if (!now.Conditions.IsTrue(Conditions.Ready))
            return;
        V1Condition? ready = had.Find(Conditions.Ready);
        bool becomesReady = ready?.Status != "True";
        // One that was ready on this node before has said so later than that it was placed.
        bool first =
            had is null
            || (
                had.Find(Conditions.Scheduled) is { Status: "True" } placed
                && (ready is null || ready.LastTransitionTime <= placed.LastTransitionTime)
            );
        if (becomesReady && !first)
            return;
        if (becomesReady)
        {
            DateTime since = had is null ? present - unsaid : had.Find(Conditions.Scheduled)!.LastTransitionTime;
            _ready.Observe(Seconds(present - since));
            before.Tell(ClaimTrace.Preparing, since, present, now);
            if (ClaimTrace.IsOn && _rooted.TryAdd(before.Metadata.Uid!, true))
                before.Tell(ClaimTrace.Root, before.Metadata.CreationTimestamp ?? present, present, now);
        }

        if (!now.Conditions.IsTrue(Conditions.InUse))
            return;
        V1Condition? use = had.Find(Conditions.InUse);
        if (becomesReady)
            _inUse.Observe(0);
        else if (use?.Status != "True" && (use is null || use.LastTransitionTime <= ready!.LastTransitionTime))
            _inUse.Observe(Seconds(present - ready!.LastTransitionTime));
    }

    /// <summary>A claim is gone.</summary>
    public void Forget(string uid) => _rooted.TryRemove(uid, out _);

    private static double Seconds(TimeSpan time) => Math.Max(0, time.TotalSeconds);
}
