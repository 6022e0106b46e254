using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace PciOperator.Core;

/// <summary>
/// A claim's trace: its id is the claim's UID, and its root's follows from that, so that controller, agent and kubelet plugin agree on it
/// without a word, also after a restart. While nobody listens there are no spans, and nothing is allocated for any.
/// </summary>
public static class ClaimTrace
{
    /// <summary>Whose spans these are, for who listens.</summary>
    public const string SourceName = "PciOperator";

    /// <summary>From a claim's creation until it is ready for the first time: the root, written when it is.</summary>
    public const string Root = "claim";

    /// <summary>From a claim's creation, or the loss of its node, until it has a node.</summary>
    public const string Placing = "claim.placing";

    /// <summary>From a claim's placement until its devices can be used.</summary>
    public const string Preparing = "claim.preparing";

    /// <summary>From a claim's deletion until its devices are back.</summary>
    public const string Releasing = "claim.releasing";

    /// <summary>The controller looks for a node; only what comes to something new.</summary>
    public const string Place = "controller.place";

    /// <summary>The controller writes the assignment into the PciNode's spec.</summary>
    public const string Assign = "controller.assign";

    /// <summary>The agent checks, binds, resets and verifies the devices.</summary>
    public const string Prepare = "agent.prepare";

    /// <summary>The agent gives the devices back to the host.</summary>
    public const string Release = "agent.release";

    /// <summary>One reset of one device.</summary>
    public const string Reset = "agent.reset";

    /// <summary>The agent changes how many VFs a PF has. No claim's: a trace of its own.</summary>
    public const string Vfs = "agent.vfs";

    /// <summary>NodePrepareResources for one ResourceClaim.</summary>
    public const string HandOut = "kubelet.prepare";

    /// <summary>NodeUnprepareResources for one ResourceClaim.</summary>
    public const string TakeBack = "kubelet.unprepare";

    /// <summary>A claim's namespace.</summary>
    public const string Namespace = "k8s.namespace.name";

    /// <summary>A node's name.</summary>
    public const string Node = "k8s.node.name";

    /// <summary>A PassthroughClaim's name.</summary>
    public const string Claim = "pcioperator.claim.name";

    /// <summary>A ResourceClaim's name.</summary>
    public const string ResourceClaim = "pcioperator.resource_claim.name";

    /// <summary>What a claim asks for: <c>a1:2,a2:1</c>.</summary>
    public const string Aliases = "pcioperator.alias";

    /// <summary>Addresses of devices, separated by commas.</summary>
    public const string Devices = "pcioperator.devices";

    /// <summary>What came of it, a word.</summary>
    public const string Outcome = "pcioperator.outcome";

    /// <summary>A reset's method, as the kernel names it.</summary>
    public const string ResetMethod = "pcioperator.reset.method";

    /// <summary>The number of VFs that a PF is to have.</summary>
    public const string NumVfs = "pcioperator.num_vfs";

    /// <summary>The reason of a failure, a word. The status has the sentence.</summary>
    public const string Reason = "error.type";

    private static readonly ActivitySource Source = new(SourceName);

    /// <summary>Whether anybody listens.</summary>
    public static bool IsOn => Source.HasListeners();

    /// <summary>What all spans of a claim have for a parent; null: its UID is no UUID, and it has no trace.</summary>
    public static ActivityContext? ParentOf(string? claimUid) =>
        Guid.TryParse(claimUid, out Guid uid) && uid != Guid.Empty
            ? new ActivityContext(TraceOf(uid), RootOf(uid), ActivityTraceFlags.Recorded, isRemote: true)
            : null;

    /// <summary>Begins a span of a claim's trace; null: nobody listens, or the claim has no trace.</summary>
    public static Activity? Start(string span, string? claimUid, string? ns, string? name) =>
        IsOn && ParentOf(claimUid) is { } parent
            ? Source.StartActivity(span, ActivityKind.Internal, parent)?.SetTag(Namespace, ns).SetTag(Claim, name)
            : null;

    /// <summary>Begins a part of the span that is under way; null: there is none.</summary>
    /// <param name="span">Its name.</param>
    /// <param name="since">How long ago it began.</param>
    public static Activity? StartPart(string span, TimeSpan since = default) =>
        IsOn && Activity.Current is { } whole && whole.Source == Source
            ? Source.StartActivity(span, ActivityKind.Internal, whole.Context, startTime: DateTimeOffset.UtcNow - since)
            : null;

    /// <summary>Begins a span that is no claim's; null: nobody listens.</summary>
    public static Activity? StartAlone(string span) =>
        Source.StartActivity(span, ActivityKind.Internal, parentContext: default(ActivityContext));

    /// <summary>Begins a span of a claim's trace that is told of when it is over; null as with <see cref="Start"/>.</summary>
    public static Activity? StartPast(string span, string? claimUid, string? ns, string? name, DateTimeOffset since, DateTimeOffset until)
    {
        if (!IsOn || !Guid.TryParse(claimUid, out Guid uid) || uid == Guid.Empty)
            return null;
        // A trace's root has no parent; the id of the trace is given all the same.
        ActivityContext parent =
            span == Root
                ? new ActivityContext(TraceOf(uid), default, ActivityTraceFlags.Recorded, isRemote: true)
                : ParentOf(claimUid)!.Value;
        Activity? activity = Source.StartActivity(span, ActivityKind.Internal, parent, startTime: since);
        if (activity is null)
            return null;
        if (span == Root)
            IdOf(activity) = RootOf(uid).ToHexString();
        return activity.SetEndTime(until.UtcDateTime).SetTag(Namespace, ns).SetTag(Claim, name);
    }

    /// <summary>It did not succeed: a word for the reason, and a sentence.</summary>
    public static void Fail(this Activity? span, string? reason, string? message) =>
        span?.SetTag(Reason, reason ?? "Unknown").SetStatus(ActivityStatusCode.Error, message);

    /// <summary>It came to nothing that anybody would ask about: it is not told.</summary>
    public static void Drop(this Activity? span)
    {
        if (span is null)
            return;
        span.IsAllDataRequested = false;
        span.ActivityTraceFlags &= ~ActivityTraceFlags.Recorded;
    }

    private static ActivityTraceId TraceOf(Guid uid) => ActivityTraceId.CreateFromString(uid.ToString("N"));

    /// <summary>The second half of the UID; in every UUID of RFC 9562 its first bits are not zero.</summary>
    private static ActivitySpanId RootOf(Guid uid)
    {
        string digits = uid.ToString("N");
        ReadOnlySpan<char> half = digits.AsSpan(16);
        return ActivitySpanId.CreateFromString(half.ContainsAnyExcept('0') ? half : digits.AsSpan(0, 16));
    }

    // The only way to say what a span's id is to be: .NET draws one. ClaimTraceTests would see that the field has another name.
    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_spanId")]
    private static extern ref string? IdOf(Activity activity);
}
