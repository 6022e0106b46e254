using System.Text.Json;
using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Controller;

/// <summary>What a claim's status says, for each state it can be in. Pure.</summary>
internal static class ClaimStatus
{
    private const int MostRefusals = 64;
    private const int MostNumaNodes = 64;

    // The reason why a claim that was on a node before is not prepared.
    private const string PlaceLost = "PlaceLost";

    // A device that its node withholds is shown so: as soon as it is not, nothing is against it.
    private const string Withheld = "Withheld";
    private static readonly TimeSpan Brief = TimeSpan.FromSeconds(30);

    /// <summary>No node: why.</summary>
    public static PassthroughClaimStatus Pending(PassthroughClaim claim, string reason, string message, DateTimeOffset now) =>
        Unplaced(claim, reason, message, claim.Status?.Refusals, now);

    /// <summary>The agent of a node refused: its devices are kept out for a while.</summary>
    public static PassthroughClaimStatus Refused(
        PassthroughClaim claim,
        string node,
        AssignmentStatus report,
        DateTimeOffset now,
        TimeSpan period
    )
    {
        var refusal = new ClaimRefusal
        {
            NodeName = node,
            Addresses = [.. (report.Devices ?? []).Select(d => d.Address)],
            Reason = TenantWords.Reason(report.Reason, "Refused"),
            Message = TenantWords.Sentence(report.Reason, node),
            Until = DateTimeOffset.FromUnixTimeSeconds(
                (now + (report.Reason == Withheld && period > Brief ? Brief : period)).ToUnixTimeSeconds()
            ),
        };
        var refusals = (claim.Status?.Refusals ?? []).Where(r => r.IsInForce(now)).Append(refusal).TakeLast(MostRefusals).ToList();
        return Unplaced(
            claim,
            "Refused",
            $"node {node} refused {Counted.Of(refusal.Addresses.Count, "device")}: {refusal.Message}",
            refusals,
            now
        );
    }

    /// <summary>A node has it: as far as its agent is.</summary>
    public static PassthroughClaimStatus Placed(
        PassthroughClaim claim,
        PciNode node,
        PciAssignment assignment,
        AssignmentStatus? report,
        Doubt? doubt,
        DeliveryState delivery,
        DateTimeOffset now
    )
    {
        string name = node.Metadata.Name!;
        bool prepared = report?.State == HoldingState.Prepared && doubt?.Ready != false;
        bool stuck = report?.State == HoldingState.Stuck;
        bool stub = assignment.Devices.Any(d => d.Driver == BindDriver.PciStub);
        string addresses = string.Join(", ", assignment.Devices.Select(d => d.Address));
        long? generation = claim.Metadata.Generation;

        IReadOnlyList<k8s.Models.V1Condition> conditions = (claim.Status?.Conditions).With(
            Conditions.Scheduled,
            true,
            "Placed",
            $"placed on node {name}: {addresses}",
            generation,
            now
        );
        (string reason, string message) =
            prepared ? ("Bound", $"{Counted.Of(assignment.Devices.Count, "device")} bound and verified on node {name}")
            : doubt?.Ready == false ? (doubt.Reason, doubt.Message)
            : report?.State == HoldingState.Rejected
                ? (
                    TenantWords.Reason(report.Reason, "Refused"),
                    $"node {name} gave the devices to this claim in this boot, and holds them for it no more: {TenantWords.Sentence(report.Reason, name)}. A VM may run with them, so the claim is not moved: "
                        + "delete it, or when the machine is off taint the node node.kubernetes.io/out-of-service"
                )
            : report?.Reason is null
                ? (
                    stuck ? "Stuck" : "Preparing",
                    stuck ? "a write to the kernel has not come back" : $"the agent of node {name} is binding the devices"
                )
            : (
                TenantWords.Reason(report.Reason, stuck ? "Stuck" : "Preparing"),
                $"{addresses}: {TenantWords.Sentence(report.Reason, name)}"
            );
        conditions = conditions.With(Conditions.Prepared, prepared, reason, message, generation, now);
        conditions =
            prepared && stub
                ? conditions.With(
                    Conditions.Ready,
                    false,
                    "StubDriver",
                    "the devices are held by pci-stub, which only takes them from the host: no VM can use them",
                    generation,
                    now
                )
            : doubt is { Ready: null } ? conditions.With(Conditions.Ready, null, doubt.Reason, doubt.Message, generation, now)
            : prepared && !delivery.Ready ? conditions.With(Conditions.Ready, false, delivery.Reason, delivery.Message, generation, now)
            : conditions.With(
                Conditions.Ready,
                prepared,
                prepared ? "Ready" : reason,
                prepared ? $"{addresses} on node {name} can be used" : message,
                generation,
                now
            );
        conditions = InUse(conditions, delivery.InUse, name, generation, now)
            .WithStalled(doubt is null && (stuck || report?.State == HoldingState.Rejected), reason, message, generation, now);

        var shown = (node.Status?.Devices ?? []).ToDictionary(d => d.Address);
        var held = (report?.Devices ?? []).ToDictionary(d => d.Address);
        return new PassthroughClaimStatus
        {
            Phase = prepared ? ClaimPhase.Allocated : ClaimPhase.Claimed,
            ObservedGeneration = generation,
            NodeName = name,
            Summary = Summary(claim, assignment.Devices),
            Devices =
            [
                .. assignment.Devices.Select(d => new ClaimDevice
                {
                    Address = d.Address,
                    Request = d.Request,
                    VendorId = d.VendorId,
                    ProductId = d.ProductId,
                    NumaNode = d.NumaNode,
                    IommuGroup = shown.GetValueOrDefault(d.Address)?.IommuGroup ?? d.IommuGroup,
                    Driver = prepared ? held.GetValueOrDefault(d.Address)?.Driver ?? shown.GetValueOrDefault(d.Address)?.Driver : null,
                    State =
                        shown.GetValueOrDefault(d.Address)?.State == DeviceState.Removed ? DeviceState.Removed
                        : prepared ? DeviceState.Allocated
                        : DeviceState.Claimed,
                    Companion = d.Companion,
                }),
            ],
            NumaNodes =
            [
                .. assignment
                    .Devices.Where(d => d.Companion != true && d.NumaNode is not null)
                    .Select(d => d.NumaNode!.Value)
                    .Distinct()
                    .Order()
                    .Take(MostNumaNodes),
            ],
            NumaPreferenceMet = assignment.NumaPreferenceMet,
            ResourceName = assignment.ResourceName,
            HandedOutIn =
                prepared && !stub ? node.Status?.BootId ?? ""
                : claim.Status?.NodeName == name ? claim.Status.HandedOutIn
                : null,
            Refusals = claim.Status?.Refusals,
            Conditions = conditions,
        };
    }

    private static IReadOnlyList<k8s.Models.V1Condition> InUse(
        IReadOnlyList<k8s.Models.V1Condition> conditions,
        DeliveryUse? use,
        string node,
        long? generation,
        DateTimeOffset now
    ) =>
        use switch
        {
            null => conditions.Without(Conditions.InUse) ?? [],
            // KubeVirt migrates no VM that has a host device, and kube-scheduler finds no other node for the claim.
            { Pods.Count: > 0 } => conditions.With(
                Conditions.InUse,
                true,
                "Reserved",
                $"{use.Named}. A VM with it can't be migrated live: evicted or restarted, it comes back on the same devices of node {node}",
                generation,
                now
            ),
            { Waiting: { } waiting } => conditions.With(
                Conditions.InUse,
                false,
                "PodUnschedulable",
                $"{waiting}. The claim has its devices on node {node}: make room there, uncordon it or let the pod tolerate its taints; or delete the claim and make it again, to have it placed anew",
                generation,
                now
            ),
            _ => conditions.With(Conditions.InUse, false, "NotInUse", "no pod has it", generation, now),
        };

    /// <summary>It waits for a pod: kube-scheduler takes one of the nodes that it is offered on.</summary>
    public static PassthroughClaimStatus Offered(PassthroughClaim claim, IReadOnlyList<string> nodes, DeliveryUse use, DateTimeOffset now)
    {
        const int mostNamed = 8;
        // Which is the best one changes with each claim that is placed, and is no news.
        string message =
            $"offered on {Counted.Of(nodes.Count, "node")}: {string.Join(", ", nodes.Order(StringComparer.Ordinal).Take(mostNamed))}{(nodes.Count > mostNamed ? ", …" : "")}; kube-scheduler takes one for the first pod that uses ResourceClaim {claim.Metadata.Name}";
        PassthroughClaimStatus status = Unplaced(claim, "WaitForFirstConsumer", message, claim.Status?.Refusals, now);
        long? generation = claim.Metadata.Generation;
        IReadOnlyList<k8s.Models.V1Condition> conditions = status.Conditions.With(
            Conditions.Ready,
            true,
            "Offered",
            message,
            generation,
            now
        );
        if (use.Waiting is { } waiting)
            conditions = conditions.With(Conditions.InUse, false, "PodUnschedulable", waiting, generation, now);
        return status with { Conditions = conditions };
    }

    /// <summary>It was ready on a node that is no Node any more: it waits for it, or for a person.</summary>
    public static PassthroughClaimStatus NodeGone(PassthroughClaim claim, string node, int nodes, DateTimeOffset now)
    {
        const string reason = "NodeGone";
        string message =
            $"0/{nodes} nodes can serve it: it has its devices on node {node}, which was deleted. A VM may run with them, so the claim is not moved: "
            + "register the node again, or delete the claim";
        PassthroughClaimStatus status = Keeping(claim, ClaimPhase.Pending, false, reason, message, now);
        return status with { Conditions = status.Conditions.WithStalled(true, reason, message, claim.Metadata.Generation, now) };
    }

    /// <summary>The PciNode of its node is made again, and the node's agent is asked what it holds.</summary>
    public static PassthroughClaimStatus Asking(PassthroughClaim claim, string node, DateTimeOffset now) =>
        Keeping(
            claim,
            claim.Status!.Phase ?? ClaimPhase.Claimed,
            null,
            "NodeAsked",
            $"the agent of node {node} is asked whether it holds the claim's devices",
            now
        );

    private static PassthroughClaimStatus Keeping(
        PassthroughClaim claim,
        ClaimPhase phase,
        bool? scheduled,
        string reason,
        string message,
        DateTimeOffset now
    )
    {
        long? generation = claim.Metadata.Generation;
        return claim.Status! with
        {
            Phase = phase,
            ObservedGeneration = generation,
            Conditions = claim
                .Status.Conditions.With(Conditions.Scheduled, scheduled, reason, message, generation, now)
                .With(Conditions.Prepared, null, reason, message, generation, now)
                .With(Conditions.Ready, null, reason, message, generation, now)
                .Without(Conditions.Stalled),
        };
    }

    /// <summary>It is deleted, and its devices are on their way back.</summary>
    public static PassthroughClaimStatus Releasing(PassthroughClaim claim, string? node, string? waitsFor, DateTimeOffset now)
    {
        const string reason = "Releasing";
        string message = waitsFor is null
            ? "the claim is deleted; its devices are on their way back to the host"
            : $"the claim is deleted; it waits for {waitsFor}";
        return (claim.Status ?? new PassthroughClaimStatus()) with
        {
            Phase = ClaimPhase.Releasing,
            ObservedGeneration = claim.Metadata.Generation,
            NodeName = node,
            Conditions = (claim.Status?.Conditions)
                .With(Conditions.Prepared, false, reason, message, claim.Metadata.Generation, now)
                .With(Conditions.Ready, false, reason, message, claim.Metadata.Generation, now)
                .Without(Conditions.Stalled),
        };
    }

    /// <summary>Whether an assignment is of devices that a node has refused to give to this claim.</summary>
    public static bool RulesOut(PassthroughClaim claim, string node, PciAssignment assignment, DateTimeOffset now) =>
        (claim.Status?.Refusals ?? []).Any(r =>
            r.NodeName == node && r.IsInForce(now) && r.Addresses.Any(a => assignment.Devices.Any(d => d.Address == a))
        );

    /// <summary>Whether two statuses read the same on the wire.</summary>
    public static bool Same(PassthroughClaimStatus? a, PassthroughClaimStatus b) =>
        a is not null
        && JsonSerializer
            .SerializeToUtf8Bytes(a, PciOperatorJsonContext.Default.PassthroughClaimStatus)
            .AsSpan()
            .SequenceEqual(JsonSerializer.SerializeToUtf8Bytes(b, PciOperatorJsonContext.Default.PassthroughClaimStatus));

    /// <summary>
    /// Whether two statuses of claims that wait say the same but for numbers: how many nodes there are, and how many for each reason.
    /// </summary>
    public static bool SameButCounts(PassthroughClaimStatus? a, PassthroughClaimStatus b)
    {
        return a is { Phase: ClaimPhase.Pending }
            && b.Phase == ClaimPhase.Pending
            && Same(Bare(a), Bare(b))
            && Words(a).SetEquals(Words(b));

        static PassthroughClaimStatus Bare(PassthroughClaimStatus s) =>
            s with
            {
                Conditions = [.. (s.Conditions ?? []).Select(c => c with { Message = "" })],
            };

        // "7 have no device" and "1 has no device" differ in their counts alone, and the reasons' order follows from the counts.
        static HashSet<string> Words(PassthroughClaimStatus s) =>
            [
                .. (s.Conditions.Find(Conditions.Scheduled)?.Message ?? "")
                    .Split([' ', ',', ':', '(', ')', '.', ';', '/'], StringSplitOptions.RemoveEmptyEntries)
                    .Where(w => !w.All(char.IsAsciiDigit))
                    .Select(w =>
                        w switch
                        {
                            "has" => "have",
                            "is" => "are",
                            "fails" => "fail",
                            "doesn't" => "don't",
                            _ => w,
                        }
                    ),
            ];
    }

    /// <summary>Since when a claim without a node waits for one: since it was made, or lost the node that it had.</summary>
    public static DateTime WaitsSince(PassthroughClaim claim) =>
        claim.Status.Reason(Conditions.Prepared) == PlaceLost && claim.Status?.Conditions.Find(Conditions.Scheduled) is { } lost
            ? lost.LastTransitionTime
            : claim.Metadata.CreationTimestamp ?? default;

    /// <summary>The reason of a condition, or null.</summary>
    public static string? Reason(this PassthroughClaimStatus? status, string type) => status?.Conditions.Find(type)?.Reason;

    private static ClaimSummary Summary(PassthroughClaim claim, IReadOnlyList<AssignedDevice> devices)
    {
        var asked = devices.Where(d => d.Companion != true).Select(d => d.Address).ToList();
        int along = devices.Count - asked.Count;
        return new ClaimSummary
        {
            Requests = Fitted.Text(claim.Spec.RequestsToNova(), 2048),
            Devices = devices.Count == 0 ? null : Fitted.Text(string.Join(',', asked), 4000) + (along > 0 ? $" (+{along})" : ""),
        };
    }

    private static PassthroughClaimStatus Unplaced(
        PassthroughClaim claim,
        string reason,
        string message,
        IReadOnlyList<ClaimRefusal>? refusals,
        DateTimeOffset now
    )
    {
        long? generation = claim.Metadata.Generation;
        bool hadNode = claim.Status?.NodeName is { Length: > 0 } || claim.Status.Reason(Conditions.Prepared) == PlaceLost;
        return new PassthroughClaimStatus
        {
            Phase = ClaimPhase.Pending,
            ObservedGeneration = generation,
            Summary = Summary(claim, []),
            Refusals = refusals,
            Conditions = (claim.Status?.Conditions)
                .Without(Conditions.InUse)
                .Without(Conditions.Stalled)
                .With(Conditions.Scheduled, false, reason, message, generation, now)
                .With(
                    Conditions.Prepared,
                    false,
                    hadNode ? PlaceLost : "NotPlaced",
                    hadNode ? "the claim is on no node any more" : "the claim is on no node",
                    generation,
                    now
                )
                .With(Conditions.Ready, false, reason, message, generation, now),
        };
    }
}
