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

    /// <summary>Claims that have no node, by namespace.</summary>
    public const string ByPendingNamespace = "pending-namespace";

    /// <summary>Claims that have a node, by namespace.</summary>
    public const string ByPlacedNamespace = "placed-namespace";

    /// <summary>PciNodes by the namespace of a claim that their spec assigns devices to.</summary>
    public const string ByAssignedNamespace = "assigned-namespace";

    /// <summary>Agent pods by node.</summary>
    public const string ByPodNode = "pod-node";

    /// <summary>Claims by the UID of the template's ResourceClaim that they stand behind.</summary>
    public const string ByTemplateClaim = "template-claim";

    /// <summary>Pods without a node by <c>namespace/name</c> of each ResourceClaim that they want.</summary>
    public const string ByResourceClaim = "resource-claim";

    /// <param name="client">The server.</param>
    /// <param name="options">Which pods are agents'.</param>
    /// <param name="dra">Whether the cluster serves resource.k8s.io/v1.</param>
    /// <param name="time">Clock.</param>
    /// <param name="log">Log.</param>
    /// <param name="metrics">Metrics.</param>
    public ControllerCaches(
        IEntityClient client,
        ControllerOptions options,
        bool dra,
        TimeProvider time,
        ILogger log,
        CollectorRegistry metrics
    )
    {
        Nodes = new(client, time: time, logger: log, metrics: metrics);
        PciNodes = new(client, time: time, logger: log, metrics: metrics);
        Specs = new(client, time: time, logger: log, metrics: metrics);
        Aliases = new(client, time: time, logger: log, metrics: metrics);
        Claims = new(client, time: time, logger: log, metrics: metrics);
        PriorityClasses = new(client, time: time, logger: log, metrics: metrics);
        Quotas = new(client, time: time, logger: log, metrics: metrics);
        Namespaces = new(client, time: time, logger: log, metrics: metrics);
        AgentPods = new(client, options.AgentNamespace, new ListOptions { LabelSelector = options.AgentSelector }, time, log, metrics);

        PciNodes.AddIndex(ByAssignedClaim, n => (n.Spec.Assignments ?? []).Select(a => a.ClaimUid));
        PciNodes.AddIndex(
            ByHeldClaim,
            n => (n.Status?.Assignments ?? []).Where(a => a.State != HoldingState.Rejected).Select(a => a.ClaimUid)
        );
        PciNodes.AddIndex(ByAssignedNamespace, n => (n.Spec.Assignments ?? []).Select(a => a.ClaimNamespace).Distinct());
        Claims.AddIndex(ByPlacedNamespace, c => c.Status?.NodeName is { Length: > 0 } ? [c.Metadata.NamespaceProperty] : []);
        Claims.AddIndex(ByTemplateClaim, c => TemplateClaim.OwnerOf(c) is { } owner ? [owner.Uid] : []);
        Claims.AddIndex(ByUid, c => [c.Metadata.Uid!]);
        Claims.AddIndex(ByNode, c => c.Status?.NodeName is { Length: > 0 } name ? [name] : []);
        Claims.AddIndex(ByCoLocatedName, c => (c.Spec.CoLocateWith ?? []).Select(n => $"{c.Metadata.NamespaceProperty}/{n}"));
        Claims.AddIndex(ByPending, c => IsPending(c) ? ["true"] : []);
        Claims.AddIndex(ByPendingNamespace, c => IsPending(c) ? [c.Metadata.NamespaceProperty] : []);
        AgentPods.AddIndex(ByPodNode, p => p.Spec?.NodeName is { Length: > 0 } name ? [name] : []);
        if (!dra)
            return;
        ResourceClaims = new(client, null, new ListOptions { LabelSelector = ResourceObjects.Labelled }, time, log, metrics);
        ResourceSlices = new(client, null, new ListOptions { FieldSelector = $"spec.driver={DraNames.Driver}" }, time, log, metrics);
        WaitingPods = new(client, null, new ListOptions { FieldSelector = "spec.nodeName=" }, time, log, metrics);
        WaitingPods.AddIndex(ByResourceClaim, Wanted);
    }

    private static bool IsPending(PassthroughClaim claim) =>
        claim.Metadata.DeletionTimestamp is null && claim.Status?.NodeName is not { Length: > 0 };

    /// <summary>The ResourceClaims that a pod wants, as <c>namespace/name</c>.</summary>
    public static IEnumerable<string> Wanted(V1Pod pod) =>
        (pod.Spec?.ResourceClaims ?? [])
            .Select(c => c.ResourceClaimName)
            .Concat((pod.Status?.ResourceClaimStatuses ?? []).Select(c => c.ResourceClaimName))
            .Where(n => !string.IsNullOrEmpty(n))
            .Select(n => $"{pod.Metadata.NamespaceProperty}/{n}")
            .Distinct();

    public WatchCache<V1Node> Nodes { get; }

    public WatchCache<PciNode> PciNodes { get; }

    public WatchCache<PciDeviceSpec> Specs { get; }

    public WatchCache<PciAlias> Aliases { get; }

    public WatchCache<PassthroughClaim> Claims { get; }

    public WatchCache<V1Namespace> Namespaces { get; }

    public WatchCache<PciQuota> Quotas { get; }

    public WatchCache<V1PriorityClass> PriorityClasses { get; }

    public WatchCache<V1Pod> AgentPods { get; }

    /// <summary>The ResourceClaims that are labelled as ours; null: the cluster serves none.</summary>
    public WatchCache<Resourcev1ResourceClaim>? ResourceClaims { get; }

    /// <summary>The ResourceSlices of our driver; null: the cluster serves none.</summary>
    public WatchCache<V1ResourceSlice>? ResourceSlices { get; }

    /// <summary>Pods that have no node yet; null: nobody can want a ResourceClaim.</summary>
    public WatchCache<V1Pod>? WaitingPods { get; }

    public IEnumerable<Task> Run(CancellationToken ct) => All.Select(c => c.Run(ct));

    public Task WaitForSyncAsync(CancellationToken ct) => Task.WhenAll(All.Select(c => c.WaitForSync(ct)));

    /// <summary>Why what one of them has may be old, or null.</summary>
    public string? WhyOld() => All.Select(c => c.WhyOld()).FirstOrDefault(w => w is not null);

    /// <summary>Why one of them no longer tries, or null.</summary>
    public string? WhyStuck() => All.Select(c => c.WhyStuck()).FirstOrDefault(w => w is not null);

    private IEnumerable<AnyCache> All =>
        new[]
        {
            AnyCache.Of(Nodes),
            AnyCache.Of(PciNodes),
            AnyCache.Of(Specs),
            AnyCache.Of(Aliases),
            AnyCache.Of(Claims),
            AnyCache.Of(Namespaces),
            AnyCache.Of(Quotas),
            AnyCache.Of(PriorityClasses),
            AnyCache.Of(AgentPods),
            AnyCache.Of(ResourceClaims),
            AnyCache.Of(ResourceSlices),
            AnyCache.Of(WaitingPods),
        }.OfType<AnyCache>();

    /// <summary>A cache, whatever it is of.</summary>
    private sealed record AnyCache(
        Func<CancellationToken, Task> Run,
        Func<CancellationToken, Task> WaitForSync,
        Func<string?> WhyOld,
        Func<string?> WhyStuck
    )
    {
        public static AnyCache? Of<T>(WatchCache<T>? cache)
            where T : class, k8s.IKubernetesObject<V1ObjectMeta> =>
            cache is null ? null : new(cache.RunAsync, cache.WaitForSyncAsync, cache.WhyOld, cache.WhyStuck);
    }

    /// <summary>Whether a node has an agent pod that is Ready.</summary>
    public bool IsAgentReady(string node) => AgentPods.ByIndex(ByPodNode, node).Any(Placement.AgentPods.IsReady);
}
