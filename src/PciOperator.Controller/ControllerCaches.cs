using k8s.Models;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;
using Prometheus;

namespace PciOperator.Controller;

/// <summary>Everything the controller watches, with the indexes that it asks by.</summary>
internal sealed class ControllerCaches
{
    /// <summary>PciNodes by the UID of a claim that their spec assigns devices to.</summary>
    public const string ByAssignedClaim = "assigned-claim";

    /// <summary>PciNodes by the UID of a claim that their agent says it holds devices for.</summary>
    public const string ByHeldClaim = "held-claim";

    /// <summary>Claims by UID.</summary>
    public const string ByUid = "uid";

    /// <summary>Claims by <c>.status.nodeName</c>.</summary>
    public const string ByNode = "node";

    /// <summary>Claims by <c>namespace/name</c> of each claim that they name in coLocateWith.</summary>
    public const string ByCoLocatedName = "co-located";

    /// <summary>Claims that have no node: key <c>true</c>.</summary>
    public const string ByPending = "pending";

    /// <summary>Agent pods by node.</summary>
    public const string ByPodNode = "pod-node";

    public ControllerCaches(IEntityClient client, ControllerOptions options, TimeProvider time, ILogger log, CollectorRegistry metrics)
    {
        Nodes = new(client, time: time, logger: log, metrics: metrics);
        PciNodes = new(client, time: time, logger: log, metrics: metrics);
        Specs = new(client, time: time, logger: log, metrics: metrics);
        Aliases = new(client, time: time, logger: log, metrics: metrics);
        Claims = new(client, time: time, logger: log, metrics: metrics);
        AgentPods = new(client, options.AgentNamespace, new ListOptions { LabelSelector = options.AgentSelector }, time, log, metrics);

        PciNodes.AddIndex(ByAssignedClaim, n => (n.Spec.Assignments ?? []).Select(a => a.ClaimUid));
        PciNodes.AddIndex(
            ByHeldClaim,
            n => (n.Status?.Assignments ?? []).Where(a => a.State != HoldingState.Rejected).Select(a => a.ClaimUid)
        );
        Claims.AddIndex(ByUid, c => [c.Metadata.Uid!]);
        Claims.AddIndex(ByNode, c => c.Status?.NodeName is { Length: > 0 } name ? [name] : []);
        Claims.AddIndex(ByCoLocatedName, c => (c.Spec.CoLocateWith ?? []).Select(n => $"{c.Metadata.NamespaceProperty}/{n}"));
        Claims.AddIndex(ByPending, c => c.Metadata.DeletionTimestamp is null && c.Status?.NodeName is not { Length: > 0 } ? ["true"] : []);
        AgentPods.AddIndex(ByPodNode, p => p.Spec?.NodeName is { Length: > 0 } name ? [name] : []);
    }

    public WatchCache<V1Node> Nodes { get; }

    public WatchCache<PciNode> PciNodes { get; }

    public WatchCache<PciDeviceSpec> Specs { get; }

    public WatchCache<PciAlias> Aliases { get; }

    public WatchCache<PassthroughClaim> Claims { get; }

    public WatchCache<V1Pod> AgentPods { get; }

    public IEnumerable<Task> Run(CancellationToken ct) =>
        [Nodes.RunAsync(ct), PciNodes.RunAsync(ct), Specs.RunAsync(ct), Aliases.RunAsync(ct), Claims.RunAsync(ct), AgentPods.RunAsync(ct)];

    public Task WaitForSyncAsync(CancellationToken ct) =>
        Task.WhenAll(
            Nodes.WaitForSyncAsync(ct),
            PciNodes.WaitForSyncAsync(ct),
            Specs.WaitForSyncAsync(ct),
            Aliases.WaitForSyncAsync(ct),
            Claims.WaitForSyncAsync(ct),
            AgentPods.WaitForSyncAsync(ct)
        );

    /// <summary>Why what one of them has may be old, or null.</summary>
    public string? WhyOld() =>
        Nodes.WhyOld() ?? PciNodes.WhyOld() ?? Specs.WhyOld() ?? Aliases.WhyOld() ?? Claims.WhyOld() ?? AgentPods.WhyOld();

    /// <summary>Why one of them no longer tries, or null.</summary>
    public string? WhyStuck() =>
        Nodes.WhyStuck() ?? PciNodes.WhyStuck() ?? Specs.WhyStuck() ?? Aliases.WhyStuck() ?? Claims.WhyStuck() ?? AgentPods.WhyStuck();

    public bool HaveSynced =>
        Nodes.HasSynced && PciNodes.HasSynced && Specs.HasSynced && Aliases.HasSynced && Claims.HasSynced && AgentPods.HasSynced;

    /// <summary>Whether a node has an agent pod that is Ready.</summary>
    public bool IsAgentReady(string node) =>
        AgentPods
            .ByIndex(ByPodNode, node)
            .Any(p =>
                p.Metadata.DeletionTimestamp is null && p.Status?.Conditions?.Any(c => c is { Type: "Ready", Status: "True" }) == true
            );
}
