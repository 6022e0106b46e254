using System.Collections.Concurrent;
using System.Diagnostics;
using k8s.Models;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Kubernetes.Schema;
using Prometheus;

namespace PciOperator.Controller;

/// <summary>
/// A claim's life. What is true of it follows from the PciNodes each time: a claim has the devices that a PciNode's spec
/// assigns to its UID, so that nothing is lost or given twice when a program dies between two writes.
/// </summary>
[EntityRbac(PciOperatorApi.Group, "passthroughclaims", "get,list,watch,patch")]
[EntityRbac(PciOperatorApi.Group, "passthroughclaims/status", "update")]
[EntityRbac(PciOperatorApi.Group, "pcinodes", "get,list,watch,patch")]
[EntityRbac("events.k8s.io", "events", "create,patch")]
[EntityRbac("", "nodes", "get")]
internal sealed class ClaimController(
    IEntityClient client,
    ControllerCaches caches,
    ClusterView view,
    PciNodeWriter writer,
    DraDelivery dra,
    Deliveries deliveries,
    CandidateNodes candidateNodes,
    AliasAccess access,
    QuotaLedger quotas,
    WaitingLine line,
    ClaimPriorities priorities,
    EventRecorder events,
    CollectorRegistry metrics,
    TimeProvider time,
    ILogger log,
    ControllerOptions options
) : IEntityController<PassthroughClaim>
{
    /// <summary>The reason of a claim that is tied to too many others.</summary>
    public const string CoLocationTooLarge = "CoLocationTooLarge";

    private readonly Counter _placements = Metrics
        .WithCustomRegistry(metrics)
        .CreateCounter("pcioperator_placements_total", "Decisions for claims by outcome.", ["outcome"]);
    private readonly Histogram _deciding = Metrics
        .WithCustomRegistry(metrics)
        .CreateHistogram("pcioperator_placement_duration_seconds", "Time to decide where a claim goes.", HistogramBuckets.Seconds);

    private readonly Counter _refused = Metrics
        .WithCustomRegistry(metrics)
        .CreateCounter(
            "pcioperator_claim_refusals_total",
            "Placements that a node's agent refused, guards' refusals among them, by reason.",
            ["reason"]
        );
    private readonly ClaimTimes _times = new(metrics, time);

    // The generation at which an assignment was withdrawn from a PciNode: its agent has to have seen that one before the claim may go. A
    // PciNode that is made again counts its generations anew, so it is the PciNode's UID that says whose they are.
    private readonly ConcurrentDictionary<(string Uid, string Node), (string? PciNodeUid, long Generation)> _withdrawn = new();

    // Since when a claim does not say a step of its way that the next one is about to replace.
    private readonly ConcurrentDictionary<string, (string Step, long Since)> _passing = new();

    // When a claim that waits said so last.
    private readonly ConcurrentDictionary<string, DateTimeOffset> _pended = new();

    // Deleted claims that no pod has and none can get.
    private readonly ConcurrentDictionary<string, bool> _closed = new();

    // What was said last of a deleted claim's devices that don't come back.
    private readonly ConcurrentDictionary<string, string> _waits = new();

    /// <inheritdoc/>
    public Task DeletedAsync(PassthroughClaim entity, CancellationToken ct)
    {
        Forget(entity.Metadata.Uid!);
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public async Task<ReconciliationResult> ReconcileAsync(PassthroughClaim entity, CancellationToken ct)
    {
        string uid = entity.Metadata.Uid!;
        line.Begin(uid);
        try
        {
            return await AdvanceAsync(entity, ct);
        }
        catch (ApiException gone) when (gone.IsNotFound && gone.Status.Details?.Kind == "passthroughclaims")
        {
            return ReconciliationResult.Done; // it went meanwhile; the cache is about to hear of it
        }
        finally
        {
            line.End(uid);
        }
    }

    private async Task<ReconciliationResult> AdvanceAsync(PassthroughClaim entity, CancellationToken ct)
    {
        if (entity.Metadata.DeletionTimestamp is not null)
            return await ReleaseAsync(entity, ct);

        PassthroughClaim claim =
            entity.Metadata.Finalizers?.Contains(PciOperatorApi.ClaimFinalizer) == true ? entity : await AddFinalizerAsync(entity, ct);
        (PciNode? node, PciAssignment? assignment) = await ChooseAssignmentAsync(claim, ct);
        if (await StaysAsync(claim, assignment is not null, ct) is { } stays)
        {
            await WriteStatusAsync(claim, stays, ct);
            return ReconciliationResult.Done; // the Node, or its PciNode, brings it back
        }

        if (assignment is null)
            return await PlaceAsync(claim, ct);
        line.Forget(claim.Metadata.Uid!);

        node = Reports.Readable(node!);
        AssignmentStatus? report = node.Status?.Assignments?.FirstOrDefault(a => a.ClaimUid == claim.Metadata.Uid);
        V1Node? host = caches.Nodes.Get(node.Metadata.Name!);
        if (
            report is { State: HoldingState.Rejected }
            && !NodeStanding.MayRun(claim, host, node)
            && RefusalOf(report, node, assignment) is { } refusal
        )
        {
            report = refusal;
            // The agent's own words are the administrator's: on the PciNode, not in the tenant's claim.
            events.Warning(
                node,
                TenantWords.Reason(report.Reason, "Refused"),
                $"refused to claim {EntityKey.Of(claim)}: {report.Message}",
                "Bind"
            );
            return await RefusedAsync(claim, node.Metadata.Name!, report, ct);
        }

        Doubt? doubt = NodeStanding.DoubtOf(host, node);
        bool prepared = report?.State == HoldingState.Prepared && doubt?.Ready != false;
        TimeSpan? patience = prepared ? null : PatienceWith(claim);
        if (patience <= TimeSpan.Zero)
        {
            var late = new AssignmentStatus
            {
                ClaimUid = claim.Metadata.Uid!,
                State = HoldingState.Rejected,
                Reason = "TooSlow",
                Devices = AllOf(assignment),
            };
            return await RefusedAsync(claim, node.Metadata.Name!, late, ct);
        }

        bool unsaid = WaitsForConsumer(claim) && claim.Status?.NodeName != node.Metadata.Name;
        if (
            unsaid
            && !AreOthersToKnow(claim)
            && !prepared
            && report is null or { State: HoldingState.Preparing, Reason: null }
            && doubt is null
        )
        {
            if (LeftUnsaid(claim, node.Metadata.Name!) is { } soon)
                return ReconciliationResult.After(soon);
        }
        else if (unsaid && prepared)
        {
            // Which node has a claim its status decides, which one controller of several can write: before that no pod is let to a node.
            claim = await WriteStatusAsync(
                claim,
                ClaimStatus.Placed(claim, node, assignment, report, doubt, dra.Expect(claim, node), time.GetUtcNow()),
                ct
            );
        }

        DeliveryState delivery = await DeliverAsync(claim, node, assignment, report, prepared, ct);
        await WriteStatusAsync(claim, ClaimStatus.Placed(claim, node, assignment, report, doubt, delivery, time.GetUtcNow()), ct);
        if (patience is { } left)
            return ReconciliationResult.After(left);
        // What stands in the way may be an object of somebody else's, whose end nobody tells.
        return prepared && !delivery.Ready ? ReconciliationResult.After(options.PendingRetry) : ReconciliationResult.Done;
    }

    private IReadOnlyCollection<PassthroughClaim> TiedTo(string name) => caches.Claims.ByIndex(ControllerCaches.ByCoLocatedName, name);

    /// <summary>Whether other claims go by which node the claim's status names.</summary>
    private bool AreOthersToKnow(PassthroughClaim claim) => CoLocation.IsTied(claim, TiedTo) || TemplateClaim.OwnerOf(claim) is not null;

    /// <summary>
    /// How much longer a step of a claim's way is not said, since as a rule the next one replaces it before anybody has read it; null: it takes long
    /// enough to be said. A controller that has just started counts anew.
    /// </summary>
    private TimeSpan? LeftUnsaid(PassthroughClaim claim, string step)
    {
        (string Step, long Since) passing = _passing.AddOrUpdate(
            claim.Metadata.Uid!,
            _ => (step, time.GetTimestamp()),
            (_, before) => before.Step == step ? before : (step, time.GetTimestamp())
        );
        TimeSpan left = options.StepDelay - time.GetElapsedTime(passing.Since);
        return left > TimeSpan.Zero ? left : null;
    }

    /// <summary>Hands the devices on as the claim wants it, and says whether pods can get them.</summary>
    private async Task<DeliveryState> DeliverAsync(
        PassthroughClaim claim,
        PciNode node,
        PciAssignment assignment,
        AssignmentStatus? report,
        bool prepared,
        CancellationToken ct
    )
    {
        if (assignment.ResourceName is { } resource)
        {
            var use = new DeliveryUse([.. (report?.Pods ?? []).Order(StringComparer.Ordinal)]);
            return report?.ResourceName == resource
                ? new(true, "Ready", "", use)
                : new(
                    false,
                    "ResourceNotRegistered",
                    $"the kubelet of node {node.Metadata.Name} has not taken up the resource {resource} yet",
                    use
                );
        }

        if (deliveries.Of(claim) == Delivery.None)
            return DeliveryState.OnTheNode;
        return prepared
            ? await dra.HandOutAsync(claim, node, assignment, ct)
            : new(false, "NotPrepared", "", dra.IsServed ? dra.UseOf(claim) : null);
    }

    /// <summary>How much longer the agent has to bind what kube-scheduler waits for; null: nobody waits.</summary>
    private TimeSpan? PatienceWith(PassthroughClaim claim) =>
        dra.IsServed
        && claim is { Spec.BindingMode: BindingMode.WaitForFirstConsumer, Status: { HandedOutIn: null } status }
        && Allocated.Of(dra.Find(claim), claim.Metadata.Uid!) is { Waits: true }
        && status.Conditions.Find(Conditions.Scheduled) is { Status: "True" } placed
            ? new DateTimeOffset(placed.LastTransitionTime, TimeSpan.Zero) + options.BindingTimeout - time.GetUtcNow()
            : null;

    /// <summary>Takes devices back that a node won't give to the claim, or not in time; they are kept out for it for a while.</summary>
    private async Task<ReconciliationResult> RefusedAsync(
        PassthroughClaim claim,
        string node,
        AssignmentStatus refusal,
        CancellationToken ct
    )
    {
        events.Warning(claim, TenantWords.Reason(refusal.Reason, "Refused"), TenantWords.Sentence(refusal.Reason, node), "Bind");
        claim = await WriteStatusAsync(
            claim,
            ClaimStatus.Refused(claim, node, refusal, time.GetUtcNow(), options.RefusalPeriodFor(refusal.Reason)),
            ct
        );
        _refused.WithLabels(TenantWords.Label(refusal.Reason)).Inc();
        await WithdrawAsync(claim, node, ct);
        return ReconciliationResult.After(TimeSpan.Zero);
    }

    private static List<AssignedDeviceStatus> AllOf(PciAssignment assignment) =>
        [.. assignment.Devices.Select(d => new AssignedDeviceStatus { Address = d.Address })];

    /// <summary>
    /// What a claim says that waits for the node where it has its devices; null: it need not wait. A guest may run with them: nothing but
    /// its deletion or the out-of-service taint moves a claim that was ready, and when its PciNode is made again the node's agent is asked
    /// first what it holds.
    /// </summary>
    private async Task<PassthroughClaimStatus?> StaysAsync(PassthroughClaim claim, bool assigned, CancellationToken ct)
    {
        if (claim.Status is not { NodeName: { Length: > 0 } name } status)
            return null;
        V1Node? node = await FindNodeAsync(name, ct);
        if (node is null)
            return status.HandedOutIn is null ? null : ClaimStatus.NodeGone(claim, name, caches.Nodes.List().Count, time.GetUtcNow());
        if (assigned || ClusterView.IsOutOfService(node))
            return null;
        PciNode? pciNode = caches.PciNodes.Get(name);
        return
            pciNode is null
            || pciNode.Spec.Settling == true
            || (pciNode.Metadata.DeletionTimestamp is not null && NodeStanding.IsOfAnother(pciNode, node))
            ? ClaimStatus.Asking(claim, name, time.GetUtcNow())
            : null;
    }

    /// <summary>
    /// The one assignment that counts. Of several (two controllers at once) the claim's own status decides, which only one
    /// of them could write; the others are withdrawn, and so is one that this claim's refusals rule out.
    /// </summary>
    private async Task<(PciNode? Node, PciAssignment? Assignment)> ChooseAssignmentAsync(PassthroughClaim claim, CancellationToken ct)
    {
        string uid = claim.Metadata.Uid!;
        var nodes = caches
            .PciNodes.ByIndex(ControllerCaches.ByAssignedClaim, uid)
            .OrderBy(n => n.Metadata.Name, StringComparer.Ordinal)
            .ToList();
        PciNode? chosen = null;
        foreach (PciNode node in nodes.OrderByDescending(n => n.Metadata.Name == claim.Status?.NodeName))
        {
            string name = node.Metadata.Name!;
            if (
                chosen is null
                && (!await IsGoneAsync(name, ct) || await MustWaitForAsync(claim, name, ct))
                && !ClaimStatus.RulesOut(claim, name, Of(node, uid), time.GetUtcNow())
            )
            {
                chosen = node;
            }
            else
            {
                await WithdrawAsync(claim, name, ct);
            }
        }

        return (chosen, chosen is null ? null : Of(chosen, uid));

        static PciAssignment Of(PciNode node, string uid) => node.Spec.Assignments!.First(a => a.ClaimUid == uid);
    }

    /// <summary>
    /// Whether a claim keeps its devices on a Node that does not exist any more: they were ready there, and nobody has said that the
    /// machine is off.
    /// </summary>
    private async Task<bool> MustWaitForAsync(PassthroughClaim claim, string name, CancellationToken ct) =>
        claim.Status is { HandedOutIn: not null } status && status.NodeName == name && await FindNodeAsync(name, ct) is null;

    /// <summary>A Node; what the cache has not, or not yet, is asked for.</summary>
    private async Task<V1Node?> FindNodeAsync(string name, CancellationToken ct) =>
        caches.Nodes.Get(name) ?? await client.GetAsync<V1Node>(name, ct: ct);

    private async Task<ReconciliationResult> PlaceAsync(PassthroughClaim claim, CancellationToken ct)
    {
        using Activity? span = claim.StartSpan(ClaimTrace.Place);
        try
        {
            return await PlaceNowAsync(claim, ct);
        }
        catch (Exception error) when (error is not OperationCanceledException)
        {
            Tell("failed", error.GetType().Name, error.Message);
            throw;
        }
        finally
        {
            // Most looks find that nothing has changed, or that it is not the claim's turn.
            if (span?.GetTagItem(ClaimTrace.Outcome) is null)
                span.Drop();
        }
    }

    /// <summary>What came of the look for a node that is under way, for the claim's trace.</summary>
    private static void Tell(string outcome, string? reason = null, string? message = null)
    {
        if (!ClaimTrace.IsOn || Activity.Current is not { OperationName: ClaimTrace.Place } span)
            return;
        span.SetTag(ClaimTrace.Outcome, outcome);
        if (reason is not null)
            span.Fail(reason, message);
    }

    private async Task<ReconciliationResult> PlaceNowAsync(PassthroughClaim claim, CancellationToken ct)
    {
        // What that PciNode assigns nobody can see now; it is not gone, and no claim moves for it.
        if (claim.Status?.NodeName is { Length: > 0 } unseen && caches.PciNodes.IsUnreadable(unseen))
            return ReconciliationResult.After(options.PendingRetry);
        if (claim.Status is { NodeName: { Length: > 0 } lost })
        {
            string why = view.IsGone(lost) ? $"node {lost} is gone" : $"its devices on node {lost} were withdrawn";
            events.Warning(claim, "NodeLost", $"{why}; the claim is placed again", "Place");
        }

        var group = CoLocation.GroupOf(claim, caches.Claims.Get, TiedTo);
        if (priorities.Of(claim) is not { } priority)
        {
            return await PendAsync(
                claim,
                ClaimPriorities.NotFound,
                $"there is no PriorityClass {claim.Spec.PriorityClassName}: name one that kubectl get priorityclasses shows, or none",
                ct
            );
        }

        if (group.Missing is { } missing)
        {
            return await PendAsync(
                claim,
                "CoLocationPending",
                $"it waits for claim {missing}, which coLocateWith names and which does not exist",
                ct
            );
        }

        if (group.TooMany)
        {
            return await PendAsync(
                claim,
                CoLocationTooLarge,
                $"coLocateWith ties it to more claims than can be placed together: at most {CoLocation.Most}, those that name it and those over others included",
                ct
            );
        }

        if (group.Nodes.Count > 1)
        {
            return await PendAsync(
                claim,
                "CoLocationImpossible",
                $"the claims that coLocateWith names are on several nodes: {string.Join(", ", group.Nodes)}",
                ct
            );
        }

        if (
            group.Unplaced.Any(m =>
                m.Metadata.Uid != claim.Metadata.Uid && m.Metadata.Finalizers?.Contains(PciOperatorApi.ClaimFinalizer) != true
            )
        )
        {
            return ReconciliationResult.After(options.BusyDelay);
        }

        if (deliveries.WhyNot(claim) is { } undeliverable)
            return await PendAsync(claim, undeliverable.Reason, undeliverable.Message, ct);

        DateTimeOffset now = time.GetUtcNow();
        var toPlace = new List<ClaimToPlace>();
        bool waits = WaitsForConsumer(claim);
        try
        {
            // Those that wait for a pod each have their own: kube-scheduler brings them together.
            toPlace.AddRange(
                group
                    .Unplaced.Where(m => waits ? m.Metadata.Uid == claim.Metadata.Uid : !WaitsForConsumer(m))
                    .Select(m => new ClaimToPlace(m, m.ToRequirements(view.Alias, now)))
            );
        }
        catch (KeyNotFoundException unknown)
        {
            return await PendAsync(claim, "AliasNotFound", $"there is no usable PciAlias {unknown.Message}", ct);
        }

        string? onlyNode = group.Nodes.FirstOrDefault();
        Allocated? allocated = waits ? Allocated.Of(dra.Find(claim), claim.Metadata.Uid!) : null;
        if (access.WhyNot(toPlace.Select(p => p.Claim)) is { } forbidden)
            return await DenyAsync(claim, allocated, AliasAccess.NotAllowed, forbidden, ct);
        QuotaPass look = quotas.Look([.. toPlace.Select(p => p.Claim)]);
        if (look.Refusal is { } exceeded)
            return await DenyAsync(claim, allocated, QuotaLedger.Exceeded, exceeded, ct);
        if (look.IsBusy)
            return ReconciliationResult.After(options.BusyDelay);
        if (waits && allocated is null)
            return await OfferAsync(toPlace[0], onlyNode, ct);
        if (allocated is not null)
        {
            string? taken = candidateNodes.NodeOf(allocated);
            if (taken is null || (onlyNode is not null && onlyNode != taken))
                return await RefuseAsync(toPlace[0], allocated, taken, onlyNode, "OtherNode", "the claim can't be served there", ct);
            onlyNode = taken;
        }

        // Another controller may be writing the assignment there, and a claim is given devices once.
        if (look.Node is { } reserved)
        {
            if (onlyNode is not null && onlyNode != reserved)
                return ReconciliationResult.After(options.BusyDelay);
            onlyNode = reserved;
        }

        if (line.MustYield(claim, priority, view.HasChanges))
            return ReconciliationResult.After(options.KickDelay);
        if (!line.TakeTurn(claim, priority))
            return ReconciliationResult.Parked;
        GroupDecision decision = Decide(claim, toPlace, onlyNode);
        if (decision.Node is null && !ReferenceEquals(decision, GroupDecision.Busy))
            line.Rest(claim.Metadata.Uid!, priority);
        if (ReferenceEquals(decision, GroupDecision.Busy))
            return ReconciliationResult.After(options.BusyDelay);
        if (decision.Node is null)
        {
            _placements.WithLabels("unschedulable").Inc();
            return allocated is null
                ? await PendAsync(claim, "NoNodeFits", decision.Summary, ct)
                : await RefuseAsync(toPlace[0], allocated, onlyNode, group.Nodes.FirstOrDefault(), "NoLongerFits", decision.Summary, ct);
        }

        if (decision.Allocations.FirstOrDefault(a => a.Devices.Count > NodeShares.MostDevices) is { } much)
        {
            foreach (ClaimToPlace member in toPlace)
                view.Settle(decision.Node, member.Requirements.ClaimUid);
            return await PendAsync(
                claim,
                "TooManyDevices",
                $"with the rest of their IOMMU groups it would take {much.Devices.Count} devices, and a claim holds {NodeShares.MostDevices} at most",
                ct
            );
        }

        (bool placed, QuotaPass pass) = await GiveAsync(toPlace, decision, ct);
        if (pass.Refusal is { } late)
            return await DenyAsync(claim, allocated, QuotaLedger.Exceeded, late, ct);
        if (pass.IsBusy)
            return ReconciliationResult.After(options.BusyDelay);

        Tell(placed ? "placed" : "lost");
        // With the assignment in the cache the next look writes the status. What was lost is decided again, less and less often as long as
        // it is lost again: a node whose report and spec contradict each other would be decided for thousands of times a second.
        return placed ? ReconciliationResult.After(TimeSpan.Zero) : ReconciliationResult.Retry;
    }

    /// <summary>Decides for a claim whose turn it is, and ends its turn.</summary>
    private GroupDecision Decide(PassthroughClaim claim, List<ClaimToPlace> toPlace, string? onlyNode)
    {
        bool served = false;
        try
        {
            long began = time.GetTimestamp();
            GroupDecision decision = view.Place(toPlace, onlyNode);
            _deciding.Observe(time.GetElapsedTime(began).TotalSeconds);
            served = decision.Node is not null;
            return decision;
        }
        finally
        {
            line.Leave(claim, served);
        }
    }

    /// <summary>Gives the devices of a decision away: reserves them where a quota holds, and writes the assignment.</summary>
    private async Task<(bool Placed, QuotaPass Pass)> GiveAsync(List<ClaimToPlace> toPlace, GroupDecision decision, CancellationToken ct)
    {
        using Activity? span = ClaimTrace.StartPart(ClaimTrace.Assign);
        span?.SetTag(ClaimTrace.Node, decision.Node)
            .SetTag(ClaimTrace.Devices, string.Join(',', decision.Allocations.SelectMany(a => a.Devices).Select(d => d.Address)));
        var pass = new QuotaPass([.. toPlace.Select(p => p.Claim)]);
        (bool placed, bool uncertain) = (false, false);
        try
        {
            pass = await quotas.ReserveAsync(pass.Claims, decision.Node!, ct);
            if (pass.IsBusy)
                span.Drop();
            if (!pass.IsGranted)
                return (false, pass);
            uncertain = true;
            PciNode? written = await writer.ChangeAsync(
                decision.Node!,
                node =>
                    quotas.IsValid(pass)
                        ? Assign(Reports.Readable(node), toPlace, decision)
                        : throw new PlacementConflictException("what was reserved for it by a quota is too old"),
                ct
            );
            view.SetPciNode(decision.Node!, written);
            (placed, uncertain) = (written is not null, false);
            _placements.WithLabels(placed ? "placed" : "lost").Inc();
        }
        catch (PlacementConflictException conflict)
        {
            uncertain = false;
            span.Fail("Conflict", conflict.Message);
            _placements.WithLabels("conflict").Inc();
        }
        finally
        {
            quotas.Settle(pass, placed, uncertain);
            foreach (ClaimToPlace settled in toPlace)
                view.Settle(decision.Node!, settled.Requirements.ClaimUid);
        }

        return (placed, pass);
    }

    /// <summary>Says of a claim that it may not have what it asks for; what was offered of it before is taken back first.</summary>
    private async Task<ReconciliationResult> DenyAsync(
        PassthroughClaim claim,
        Allocated? allocated,
        string reason,
        string message,
        CancellationToken ct
    )
    {
        if (WaitsForConsumer(claim) && dra.IsServed)
        {
            await dra.WithdrawAsync(claim, ct);
            if (allocated is { Waits: true })
                await dra.RefuseAsync(allocated, reason, message, ct);
        }

        return await PendAsync(claim, reason, message, ct);
    }

    /// <summary>Whether kube-scheduler is to take the claim's node.</summary>
    private bool WaitsForConsumer(PassthroughClaim claim) =>
        claim.Spec.BindingMode == BindingMode.WaitForFirstConsumer && deliveries.Of(claim) == Delivery.DRA;

    /// <summary>Offers a claim on the nodes that could serve it, for kube-scheduler to take one.</summary>
    private async Task<ReconciliationResult> OfferAsync(ClaimToPlace toPlace, string? onlyNode, CancellationToken ct)
    {
        PassthroughClaim claim = toPlace.Claim;
        if (!dra.IsServed)
        {
            return await PendAsync(
                claim,
                "DraNotServed",
                "the cluster does not serve resource.k8s.io/v1 (Kubernetes 1.34), without which kube-scheduler can't take the node: use bindingMode Immediate",
                ct
            );
        }

        Candidates candidates = candidateNodes.Find(toPlace, onlyNode);
        if (await dra.OfferAsync(claim, candidates, ct) is { } hindrance)
            return await PendAsync(claim, hindrance.Reason, hindrance.Message, ct);
        PassthroughClaimStatus status = ClaimStatus.Offered(
            claim,
            [.. candidates.Hosts.Select(h => h.Node)],
            dra.UseOf(claim),
            time.GetUtcNow()
        );
        // Of a claim whose pod is there kube-scheduler takes the node at once.
        if (!ClaimStatus.Same(claim.Status, status) && LeftUnsaid(claim, "") is { } soon)
            return ReconciliationResult.After(soon);
        if (!ClaimStatus.Same(claim.Status, status))
            Tell("offered");
        await WriteStatusAsync(claim, status, ct);
        return ReconciliationResult.After(options.PendingRetry);
    }

    /// <summary>Says to kube-scheduler that the node which it took won't do, after it is no longer offered.</summary>
    private async Task<ReconciliationResult> RefuseAsync(
        ClaimToPlace toPlace,
        Allocated allocated,
        string? taken,
        string? onlyNode,
        string reason,
        string message,
        CancellationToken ct
    )
    {
        if (!allocated.Waits)
        {
            // Nobody waits for an answer: the allocation is from before the claim lost its node, and goes with the pods that have it.
            return await PendAsync(
                claim: toPlace.Claim,
                reason,
                $"node {taken} has it allocated and can't serve it any more: {message}",
                ct
            );
        }

        // An offer that still names the node would be taken again.
        await dra.OfferAsync(toPlace.Claim, candidateNodes.Find(toPlace, onlyNode).Without(taken), ct);
        Tell("refused", reason, message);
        events.Warning(toPlace.Claim, reason, $"node {taken ?? "?"}, which kube-scheduler took, can't serve it: {message}", "Place");
        await dra.RefuseAsync(allocated, reason, message, ct);
        return ReconciliationResult.Done; // kube-scheduler takes back its allocation, which brings the claim here again
    }

    /// <summary>The spec with the decision in it.</summary>
    /// <exception cref="PlacementConflictException">A device of it has gone to another claim.</exception>
    private PciNodeSpec? Assign(PciNode node, List<ClaimToPlace> claims, GroupDecision decision)
    {
        var assignments = (node.Spec.Assignments ?? []).ToList();
        if (node.Metadata.DeletionTimestamp is not null)
            throw new PlacementConflictException($"PciNode {node.Metadata.Name} is going away");
        if (node.Spec.Settling == true)
            throw new PlacementConflictException($"the agent of node {node.Metadata.Name} is being asked what it holds");
        var taken = assignments.SelectMany(a => a.Devices).Select(d => d.Address).ToHashSet();
        foreach (AssignmentStatus held in (node.Status?.Assignments ?? []).Where(a => a.State != HoldingState.Rejected))
            taken.UnionWith((held.Devices ?? []).Select(d => d.Address));

        foreach ((ClaimToPlace claim, NodeAllocation allocation) in claims.Zip(decision.Allocations))
        {
            string uid = claim.Requirements.ClaimUid;
            if (assignments.Any(a => a.ClaimUid == uid))
                continue;
            if (
                allocation.Devices.FirstOrDefault(d => taken.Contains(d.Address.ToString())) is { Address: var clash }
                && taken.Contains(clash.ToString())
            )
            {
                throw new PlacementConflictException($"{clash} has another owner by now");
            }

            assignments.Add(deliveries.Complete(AssignmentBuilder.Of(claim.Claim, allocation, node), claim.Claim));
        }

        if (!NodeShares.Fits(assignments))
            throw new PlacementConflictException($"PciNode {node.Metadata.Name} has no room for more claims by now");
        return assignments.Count == (node.Spec.Assignments?.Count ?? 0) ? null : node.Spec with { Assignments = assignments };
    }

    private async Task<ReconciliationResult> PendAsync(PassthroughClaim claim, string reason, string message, CancellationToken ct)
    {
        DateTimeOffset now = time.GetUtcNow();
        PassthroughClaimStatus status = ClaimStatus.Pending(claim, reason, message, now);
        if (claim.Status.Reason(Conditions.Scheduled) != reason)
        {
            Tell("pending", reason, message);
            events.Warning(claim, reason, message, "Place");
        }

        // A change that makes room wakes it; refusals end by themselves.
        TimeSpan until = (status.Refusals ?? [])
            .Where(r => r.IsInForce(now))
            .Select(r => r.Until!.Value - now)
            .DefaultIfEmpty(options.PendingRetry)
            .Min();
        string uid = claim.Metadata.Uid!;
        if (
            _pended.TryGetValue(uid, out DateTimeOffset last)
            && last + options.CountsPeriod > now
            && !ClaimStatus.Same(claim.Status, status)
            && ClaimStatus.SameButCounts(claim.Status, status)
        )
        {
            // Of many claims that wait each would say new counts after every change: they are said later, once.
            until = until < last + options.CountsPeriod - now ? until : last + options.CountsPeriod - now;
        }
        else
        {
            if (!ClaimStatus.Same(claim.Status, status))
                _pended[uid] = now;
            await WriteStatusAsync(claim, status, ct);
        }

        return ReconciliationResult.After(until < options.PendingRetry ? until : options.PendingRetry);
    }

    /// <summary>A claim that is deleted goes when every node that may hold its devices has given them back, or is gone itself.</summary>
    private async Task<ReconciliationResult> ReleaseAsync(PassthroughClaim claim, CancellationToken ct)
    {
        if (claim.Metadata.Finalizers?.Contains(PciOperatorApi.ClaimFinalizer) != true)
            return ReconciliationResult.Done;

        string uid = claim.Metadata.Uid!;
        if (await UsersAsync(claim, ct) is { } users)
        {
            claim = await WriteStatusAsync(claim, ClaimStatus.Releasing(claim, claim.Status?.NodeName, users, time.GetUtcNow()), ct);
            if (!_waits.TryGetValue(uid, out string? said) || said != users)
                events.Warning(claim, "InUse", $"the claim is deleted; it waits for {users}", "Release");
            _waits[uid] = users;
            return ReconciliationResult.After(options.PendingRetry); // the end of a pod brings it back
        }

        var assigned = caches.PciNodes.ByIndex(ControllerCaches.ByAssignedClaim, uid).Select(n => n.Metadata.Name!).ToList();
        // An agent is believed only of claims that it was given: of any other it could keep a claim from ever going.
        var held = caches
            .PciNodes.ByIndex(ControllerCaches.ByHeldClaim, uid)
            .Select(n => n.Metadata.Name!)
            .Where(n => n == claim.Status?.NodeName || _withdrawn.ContainsKey((uid, n)))
            .ToList();

        // The node is on record before the assignment goes: whoever takes over after a crash knows whom to wait for.
        claim = await WriteStatusAsync(
            claim,
            ClaimStatus.Releasing(claim, claim.Status?.NodeName ?? assigned.FirstOrDefault(), null, time.GetUtcNow()),
            ct
        );
        foreach (string name in assigned)
            await WithdrawAsync(claim, name, ct);

        IEnumerable<string> concerned =
        [
            .. assigned,
            .. held,
            .. claim.Status?.NodeName is { Length: > 0 } own ? [own] : Array.Empty<string>(),
        ];
        foreach (string name in concerned.Distinct())
        {
            bool gone = await IsGoneAsync(name, ct);
            if (!gone && Unsettled(uid, name) is { } why)
            {
                log.LogDebug("claim {Claim} waits: {Reason}", EntityKey.Of(claim), why);
                AnnounceWait(claim, name);
                if (WaitsFor(uid, name) is { } whom)
                    await WriteStatusAsync(claim, ClaimStatus.Releasing(claim, claim.Status?.NodeName, whom, time.GetUtcNow()), ct);
                return ReconciliationResult.Done; // the PciNode's next change brings it back
            }

            if (gone)
                events.Warning(claim, "NodeLost", $"node {name} is gone; its devices are let go without it", "Release");
        }

        await RemoveFinalizerAsync(claim, ct);
        log.LogInformation("claim {Claim}: released", EntityKey.Of(claim));
        DateTime now = time.GetUtcNow().UtcDateTime;
        claim.Tell(ClaimTrace.Releasing, claim.Metadata.DeletionTimestamp ?? now, now, claim.Status);
        if (claim.Status?.NodeName is { Length: > 0 } host)
            events.Normal(claim, "Released", $"its devices on node {host} are let go, and the claim goes", "Release");
        Forget(uid);
        return ReconciliationResult.Done;
    }

    /// <summary>Closes a deleted claim to pods; the pods that have it reserved, or null.</summary>
    private async Task<string?> CloseAsync(PassthroughClaim claim, CancellationToken ct)
    {
        // A claim that is delivered otherwise has a ResourceClaim only if it was delivered by DRA before.
        if (deliveries.Of(claim) != Delivery.DRA && dra.Find(claim) is null)
            return null;
        // A pod that is not bound yet need not wait for an answer that won't come.
        if (Allocated.Of(dra.Find(claim), claim.Metadata.Uid!) is { Waits: true } waiting)
            await dra.RefuseAsync(waiting, "ClaimDeleted", $"PassthroughClaim {claim.Metadata.Name} is being deleted", ct);
        return await dra.CloseAsync(claim, ct);
    }

    /// <summary>The pods that have a deleted claim's devices; null: none, and none can get them.</summary>
    private async Task<string?> UsersAsync(PassthroughClaim claim, CancellationToken ct)
    {
        string uid = claim.Metadata.Uid!;
        // What was closed stays so: no pod gets it any more.
        if (!_closed.ContainsKey(uid))
        {
            if (await CloseAsync(claim, ct) is { } reserved)
                return reserved;
            _closed[uid] = true;
        }

        string? name = claim.Status?.NodeName;
        IReadOnlyList<string> pods =
            name is not null && !view.IsGone(name)
                ? caches.PciNodes.Get(name)?.Status?.Assignments?.FirstOrDefault(a => a.ClaimUid == uid)?.Pods ?? []
                : [];
        return pods.Count == 0 ? null : new DeliveryUse(pods).Named;
    }

    /// <summary>Whether a node can no longer be asked after. What the cache does not have is looked for at the server: a device is
    /// not taken from under a VM because a watch is behind.</summary>
    private async Task<bool> IsGoneAsync(string name, CancellationToken ct) =>
        view.IsGone(name) && (await client.GetAsync<V1Node>(name, ct: ct) is not { } live || ClusterView.IsOutOfService(live));

    /// <summary>Why a node may still hold a claim's devices; null: it does not.</summary>
    private string? Unsettled(string uid, string name)
    {
        if (caches.PciNodes.IsUnreadable(name))
            return $"the PciNode {name} can't be read";
        if (caches.PciNodes.Get(name) is not { } node)
            return null;
        if (node.Spec.Assignments?.Any(a => a.ClaimUid == uid) == true)
            return $"node {name} still has its assignment";
        if (node.Status?.Assignments?.Any(a => a.ClaimUid == uid && a.State != HoldingState.Rejected) == true)
            return $"the agent of node {name} is giving its devices back";
        long generation =
            _withdrawn.TryGetValue((uid, name), out (string? PciNodeUid, long Generation) withdrawn)
            && withdrawn.PciNodeUid == node.Metadata.Uid
                ? withdrawn.Generation
                : node.Metadata.Generation ?? 0;
        return (node.Status?.ObservedGeneration ?? 0) < generation ? $"the agent of node {name} has not seen the withdrawal yet" : null;
    }

    /// <summary>For whom a release waits that takes longer than an agent needs; null: for nobody, so far.</summary>
    private string? WaitsFor(string uid, string name)
    {
        if (caches.Nodes.Get(name) is { } node && NodeStanding.IsUnreachable(node))
            return $"node {name}, which can't be reached; when the machine is off for good, taint it node.kubernetes.io/out-of-service";
        if (!view.IsAgentReady(name))
            return $"the agent of node {name}, which is not ready";
        return caches.PciNodes.Get(name)?.Status?.Assignments?.FirstOrDefault(a => a.ClaimUid == uid) switch
        {
            { Reason: "InUse" } => $"a VM or pod on node {name} that still has its devices open (InUse)",
            { Reason: { Length: > 0 } reason, State: HoldingState.Releasing or HoldingState.Stuck } =>
                $"node {name}: {TenantWords.Sentence(reason, name)}",
            _ => null,
        };
    }

    private async Task WithdrawAsync(PassthroughClaim claim, string name, CancellationToken ct)
    {
        string uid = claim.Metadata.Uid!;
        PciNode? written = await writer.WithdrawAsync(name, uid, ct);
        if (written is null)
            return;
        _withdrawn[(uid, name)] = (written.Metadata.Uid, written.Metadata.Generation ?? 0);
        view.SetPciNode(name, written);
    }

    private void Forget(string uid)
    {
        _times.Forget(uid);
        _pended.TryRemove(uid, out _);
        _passing.TryRemove(uid, out _);
        _waits.TryRemove(uid, out _);
        line.Forget(uid);
        _closed.TryRemove(uid, out _);
        foreach ((string Uid, string Node) key in _withdrawn.Keys.Where(k => k.Uid == uid))
            _withdrawn.TryRemove(key, out _);
    }

    private async Task<PassthroughClaim> WriteStatusAsync(PassthroughClaim claim, PassthroughClaimStatus status, CancellationToken ct)
    {
        // What was not said when it was so: since when.
        TimeSpan unsaid =
            _passing.TryRemove(claim.Metadata.Uid!, out (string Step, long Since) passing) && passing.Step == status.NodeName
                ? time.GetElapsedTime(passing.Since)
                : TimeSpan.Zero;
        if (ClaimStatus.Same(claim.Status, status))
            return claim;
        PassthroughClaim written = await client.UpdateStatusAsync(claim with { Status = status }, ct);
        caches.Claims.Observe(written);
        _times.Count(claim, status, unsaid);
        Announce(claim, status);
        return written;
    }

    private void Announce(PassthroughClaim before, PassthroughClaimStatus status)
    {
        if (status.Phase is ClaimPhase.Claimed or ClaimPhase.Allocated && before.Status?.NodeName != status.NodeName)
        {
            log.LogInformation(
                "claim {Claim}: placed on node {Node}: {Devices}",
                EntityKey.Of(before),
                status.NodeName,
                status.Summary?.Devices
            );
            events.Normal(before, "Placed", $"placed on node {status.NodeName}", "Place");
        }

        if (status.Conditions.Find(Conditions.Prepared) is { } prepared && status.NodeName is { } node)
            AnnouncePrepared(before, prepared, status.Devices?.Count ?? 0, node);
        // What the agent has found the agent says; this nobody else does.
        if (
            before.Status?.Conditions.IsTrue(Conditions.Ready) == true
            && before.Metadata.DeletionTimestamp is null
            && status.Conditions.Find(Conditions.Ready) is { } lost
            && (lost.Status == "Unknown" || lost.Reason == NodeStanding.Rebooted)
        )
        {
            events.Warning(before, lost.Reason, lost.Message, "Place");
        }

        if (status.Conditions.IsTrue(Conditions.Ready) && before.Status?.Conditions.IsTrue(Conditions.Ready) != true)
        {
            if (status.NodeName is { Length: > 0 } ready)
                events.Normal(before, "Ready", $"its devices on node {ready} can be used", "Place");
            else
                events.Normal(before, "Offered", status.Conditions.Find(Conditions.Ready)!.Message, "Place");
        }
    }

    /// <summary>What the node's agent has come to, or what keeps it, once each.</summary>
    private void AnnouncePrepared(PassthroughClaim before, V1Condition now, int devices, string node)
    {
        V1Condition? was = before.Status?.Conditions.Find(Conditions.Prepared);
        if (now.Status == "True" && was?.Status != "True")
        {
            events.Normal(before, "Prepared", $"{Counted.Of(devices, "device")} bound and verified on {node}", "Bind");
        }
        else if (
            now.Status != "True"
            && now.Reason != was?.Reason
            && now.Reason is { Length: > 0 } reason and not ("Preparing" or "NotPlaced" or "Releasing")
        )
        {
            events.Warning(before, reason, TenantWords.Sentence(reason, node), "Bind");
        }
    }

    /// <summary>What keeps the devices of a deleted claim, once for each reason.</summary>
    private void AnnounceWait(PassthroughClaim claim, string node)
    {
        string? reason = caches
            .PciNodes.Get(node)
            ?.Status?.Assignments?.FirstOrDefault(a => a.ClaimUid == claim.Metadata.Uid && a.State != HoldingState.Rejected)
            ?.Reason;
        if (reason is not { Length: > 0 } || _waits.TryGetValue(claim.Metadata.Uid!, out string? said) && said == reason)
            return;
        _waits[claim.Metadata.Uid!] = reason;
        events.Warning(claim, TenantWords.Reason(reason, "Releasing"), TenantWords.Sentence(reason, node), "Release");
    }

    private async Task<PassthroughClaim> AddFinalizerAsync(PassthroughClaim claim, CancellationToken ct) =>
        await PatchFinalizersAsync(claim, MetadataPatch.AddFinalizer(claim.Metadata, PciOperatorApi.ClaimFinalizer), ct);

    private async Task RemoveFinalizerAsync(PassthroughClaim claim, CancellationToken ct) =>
        await PatchFinalizersAsync(claim, MetadataPatch.RemoveFinalizer(claim.Metadata, PciOperatorApi.ClaimFinalizer), ct);

    private async Task<PassthroughClaim> PatchFinalizersAsync(PassthroughClaim claim, EntityPatch patch, CancellationToken ct)
    {
        PassthroughClaim written = await client.PatchAsync<PassthroughClaim>(
            claim.Metadata.Name!,
            claim.Metadata.NamespaceProperty,
            patch,
            ct: ct
        );
        if (
            written.Metadata.DeletionTimestamp is null
            || written.Metadata.Finalizers is { Count: > 0 }
            || written.Metadata is LeanObjectMeta { ForeignFinalizers: > 0 }
        )
        {
            caches.Claims.Observe(written);
        }

        return written;
    }

    /// <summary>
    /// A refusal of this assignment, with its devices; null: it is about an earlier one. The devices that it names have to be this
    /// assignment's. One that names none is about all of them, when the agent has seen this assignment.
    /// </summary>
    private static AssignmentStatus? RefusalOf(AssignmentStatus report, PciNode node, PciAssignment assignment)
    {
        if (report.Devices is { Count: > 0 } named)
            return named.All(r => assignment.Devices.Any(d => d.Address == r.Address)) ? report : null;
        return node.Status!.ObservedGeneration >= node.Metadata.Generation ? report with { Devices = AllOf(assignment) } : null;
    }
}
