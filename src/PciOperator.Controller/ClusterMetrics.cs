using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;
using Prometheus;

namespace PciOperator.Controller;

/// <summary>
/// The cluster as its metrics show it, looked at when somebody asks. Only a controller that works says it. Labels take no word of an agent's
/// own, and no tenant's: there are as many series as kinds of devices, aliases, nodes and our own reasons make.
/// </summary>
internal sealed class ClusterMetrics : IDisposable
{
    private const string Other = "Other";

    private static readonly HashSet<string> DeviceWords =
    [
        WithheldWords.UsedOnce,
        WithheldWords.NotClean,
        WithheldWords.NoReset,
        WithheldWords.CannotBind,
        WithheldWords.GroupHasPf,
        WithheldWords.ConfigSpaceGone,
        WithheldWords.NotAnswering,
        "AerErrors",
        "LinkDegraded",
    ];

    // Beside those of TenantWords, what a claim that has a node says of its devices.
    private static readonly HashSet<string> PreparedWords =
    [
        "Bound",
        "Stuck",
        "Refused",
        "NodeUnreachable",
        "NodeAsked",
        "NodeGone",
        NodeStanding.Rebooted,
    ];

    private readonly ControllerCaches _caches;
    private readonly ClusterView _view;
    private readonly DraDelivery _dra;
    private readonly TimeProvider _time;
    private readonly SnapshotGauge _pools;
    private readonly SnapshotGauge _aliases;
    private readonly SnapshotGauge _claims;
    private readonly SnapshotGauge _oldest;
    private readonly SnapshotGauge _agents;
    private readonly SnapshotGauge _behind;
    private readonly SnapshotGauge _problems;
    private readonly SnapshotGauge _withheld;
    private readonly SnapshotGauge _trouble;

    // Guards all that follows: there may be several who ask.
    private readonly Lock _lock = new();

    // What a node's agent had taken up when it was first seen to be behind.
    private readonly Dictionary<string, (string? Uid, long Observed, DateTimeOffset Since)> _waitsFor = [];
    private bool _over;

    public ClusterMetrics(ControllerCaches caches, ClusterView view, DraDelivery dra, TimeProvider time, CollectorRegistry metrics)
    {
        (_caches, _view, _dra, _time) = (caches, view, dra, time);
        _pools = new(
            metrics,
            "pcioperator_pool_devices",
            "Devices that a PciDeviceSpec matches, by what they are and by state, as the nodes' agents say.",
            "vendor_id",
            "product_id",
            "type",
            "state"
        );
        _aliases = new(
            metrics,
            "pcioperator_alias_devices",
            "Devices that an alias means, by state; available are those that a claim could get now.",
            "alias",
            "state"
        );
        _claims = new(metrics, "pcioperator_claims", "Claims by phase, and by why they are in it.", "phase", "reason");
        _oldest = new(
            metrics,
            "pcioperator_claims_oldest_timestamp_seconds",
            "Since when the claim that has been longest in a phase for a reason is in that phase.",
            "phase",
            "reason"
        );
        _agents = new(
            metrics,
            "pcioperator_node_agent_ready",
            "1 when the agent of a node that has rules or assignments is ready, else 0.",
            "node"
        );
        _behind = new(
            metrics,
            "pcioperator_node_unanswered_timestamp_seconds",
            "Since when a node's agent has not taken up what its PciNode asks for; only nodes where it has not.",
            "node"
        );
        _problems = new(
            metrics,
            "pcioperator_node_device_problems",
            "Devices with a problem, by node and problem; only nodes that have some.",
            "node",
            "problem"
        );
        _withheld = new(
            metrics,
            "pcioperator_node_withheld_devices",
            "Devices that a node keeps from claims although nothing uses them, by reason; only nodes that have some.",
            "node",
            "reason"
        );
        _trouble = new(
            metrics,
            "pcioperator_node_troubled_assignments",
            "Assignments whose binding or release does not go on, by node, state and reason; only nodes that have some.",
            "node",
            "state",
            "reason"
        );
        metrics.AddBeforeCollectCallback(Look);
    }

    /// <summary>From now on another controller says it.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            _over = true;
            foreach (SnapshotGauge gauge in new[] { _pools, _aliases, _claims, _oldest, _agents, _behind, _problems, _withheld, _trouble })
                gauge.Show([]);
        }
    }

    private void Look()
    {
        lock (_lock)
        {
            if (_over)
                return;
            List<PciNode> nodes = [.. _caches.PciNodes.List().Select(Reports.Readable)];
            _pools.Show(Pools(nodes));
            _aliases.Show(_caches.Aliases.List().SelectMany(a => Alias(a.Metadata.Name!)));
            LookAtClaims();
            LookAtAgents(nodes);
            LookAtDevices(nodes);
        }
    }

    private static IEnumerable<(string[], double)> Pools(List<PciNode> nodes) =>
        nodes
            .SelectMany(n => n.Status?.Pools ?? [])
            .GroupBy(p => (p.VendorId, p.ProductId, p.Type))
            .SelectMany(kind =>
                States(
                        kind.Sum(p => p.Available),
                        kind.Sum(p => p.Claimed),
                        kind.Sum(p => p.Allocated),
                        kind.Sum(p => p.Total - p.Available - p.Claimed - p.Allocated)
                    )
                    .Select(s => (new[] { kind.Key.VendorId ?? "", kind.Key.ProductId ?? "", kind.Key.Type.ToNova(), s.State }, s.Count))
            );

    private IEnumerable<(string[], double)> Alias(string name)
    {
        DevicesByUse counts = _view.Alias(name) is { } alias ? _view.DevicesOfAlias(alias) : DevicesByUse.None;
        return States(counts.Available, counts.Claimed, counts.Allocated, counts.Unavailable)
            .Select(s => (new[] { name, s.State }, s.Count));
    }

    private static (string State, double Count)[] States(int available, int claimed, int allocated, int unavailable) =>
        [
            (DeviceState.Available.ToNova(), available),
            (DeviceState.Claimed.ToNova(), claimed),
            (DeviceState.Allocated.ToNova(), allocated),
            (DeviceState.Unavailable.ToNova(), unavailable),
        ];

    private void LookAtClaims()
    {
        var claims = _caches
            .Claims.List()
            .GroupBy(c => (Phase: PhaseOf(c), Reason: ReasonOf(c)))
            .Select(g => (Labels: new[] { g.Key.Phase.ToString(), g.Key.Reason }, Count: (double)g.Count(), Since: g.Min(SinceOf)))
            .ToList();
        _claims.Show(claims.Select(c => (c.Labels, c.Count)));
        _oldest.Show(claims.Select(c => (c.Labels, (double)new DateTimeOffset(c.Since, TimeSpan.Zero).ToUnixTimeSeconds())));
    }

    private static ClaimPhase PhaseOf(PassthroughClaim claim) =>
        claim.Metadata.DeletionTimestamp is not null ? ClaimPhase.Releasing : claim.Status?.Phase ?? ClaimPhase.Pending;

    private string ReasonOf(PassthroughClaim claim) =>
        PhaseOf(claim) switch
        {
            ClaimPhase.Pending => claim.Status.Reason(Conditions.Scheduled) ?? "New",
            ClaimPhase.Releasing => WhyHeld(claim),
            ClaimPhase.Allocated => claim.Status.Reason(Conditions.Ready) ?? Other,
            // What keeps it may be in its agent's words.
            _ => claim.Status.Reason(Conditions.Prepared) is { } reason && PreparedWords.Contains(reason)
                ? reason
                : TenantWords.Label(claim.Status.Reason(Conditions.Prepared)),
        };

    private string WhyHeld(PassthroughClaim claim)
    {
        const string releasing = "Releasing";
        const string inUse = "InUse";
        if (_dra.IsServed && _dra.UseOf(claim).Pods.Count > 0)
            return inUse;
        if (claim.Status?.NodeName is not { Length: > 0 } node)
            return releasing;
        AssignmentStatus? report = _caches.PciNodes.Get(node)?.Status?.Assignments?.FirstOrDefault(a => a.ClaimUid == claim.Metadata.Uid);
        return report switch
        {
            { Pods.Count: > 0 } => inUse,
            { Reason: { Length: > 0 } reason, State: not HoldingState.Rejected } => TenantWords.Label(reason),
            { State: HoldingState.Stuck } => "Stuck",
            _ => _view.IsAgentReady(node) ? releasing : "AgentNotReady",
        };
    }

    private static DateTime SinceOf(PassthroughClaim claim) =>
        PhaseOf(claim) switch
        {
            ClaimPhase.Releasing => claim.Metadata.DeletionTimestamp!.Value,
            ClaimPhase.Pending => ClaimStatus.WaitsSince(claim),
            ClaimPhase.Allocated => claim.Status!.Conditions.Find(Conditions.Prepared)?.LastTransitionTime ?? default,
            _ => claim.Status!.Conditions.Find(Conditions.Scheduled)?.LastTransitionTime ?? default,
        };

    private void LookAtAgents(List<PciNode> nodes)
    {
        var concerned = nodes.Where(n => n.Spec.Rules is { Count: > 0 } || n.Spec.Assignments is { Count: > 0 }).ToList();
        _agents.Show(concerned.Select(n => (new[] { n.Metadata.Name! }, _view.IsAgentReady(n.Metadata.Name!) ? 1.0 : 0.0)));

        DateTimeOffset now = _time.GetUtcNow();
        var behind = concerned.Where(n => (n.Status?.ObservedGeneration ?? 0) < (n.Metadata.Generation ?? 0)).ToList();
        foreach (string name in _waitsFor.Keys.Except(behind.Select(n => n.Metadata.Name!)).ToList())
            _waitsFor.Remove(name);
        foreach (PciNode node in behind)
        {
            // One that goes on is not deaf, however much there is to do.
            (string? Uid, long Observed) at = (node.Metadata.Uid, node.Status?.ObservedGeneration ?? 0);
            if (
                !_waitsFor.TryGetValue(node.Metadata.Name!, out (string? Uid, long Observed, DateTimeOffset) known)
                || (known.Uid, known.Observed) != at
            )
            {
                _waitsFor[node.Metadata.Name!] = (at.Uid, at.Observed, now);
            }
        }

        _behind.Show(_waitsFor.Select(w => (new[] { w.Key }, (double)w.Value.Since.ToUnixTimeSeconds())));
    }

    private void LookAtDevices(List<PciNode> nodes)
    {
        _problems.Show(
            Counted(nodes, n => (n.Status?.Devices ?? []).SelectMany(ProblemsOf), (node, problem) => new[] { node.Metadata.Name!, problem })
        );
        _withheld.Show(
            Counted(
                nodes,
                n => (n.Status?.Devices ?? []).Where(d => d.WithheldBy is { Length: > 0 }).Select(d => Word(d.WithheldBy!)),
                (node, reason) => new[] { node.Metadata.Name!, reason }
            )
        );
        _trouble.Show(
            Counted(
                nodes,
                n => (n.Status?.Assignments ?? []).Where(IsTroubled).Select(a => (a.State, Reason: TroubleOf(a))),
                (node, t) => new[] { node.Metadata.Name!, t.State.ToString(), t.Reason }
            )
        );
    }

    /// <summary>What a device says is wrong with it, each once, and that it is gone.</summary>
    private static IEnumerable<string> ProblemsOf(PciNodeDevice device)
    {
        IEnumerable<string> problems = (device.Problems ?? []).Select(p => Word(p.Type)).Distinct();
        return device.State == DeviceState.Removed ? problems.Append("Removed") : problems;
    }

    private static bool IsTroubled(AssignmentStatus assignment) =>
        assignment.State is HoldingState.Stuck || (assignment.State != HoldingState.Rejected && assignment.Reason is { Length: > 0 });

    private static string TroubleOf(AssignmentStatus assignment) =>
        assignment.Reason is { Length: > 0 } reason ? TenantWords.Label(reason) : assignment.State.ToString();

    private static string Word(string said) => DeviceWords.Contains(said) ? said : Other;

    private static IEnumerable<(string[], double)> Counted<T>(
        List<PciNode> nodes,
        Func<PciNode, IEnumerable<T>> things,
        Func<PciNode, T, string[]> labels
    ) => nodes.SelectMany(n => things(n).GroupBy(t => t).Select(g => (labels(n, g.Key), (double)g.Count())));
}
