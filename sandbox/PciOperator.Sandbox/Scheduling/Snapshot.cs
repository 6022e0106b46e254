using System.Text.Json.Nodes;

namespace PciOperator.Sandbox.Scheduling;

/// <summary>Why a pod has no node, in the scheduler's words.</summary>
internal sealed class UnschedulableException(string message) : Exception(message);

/// <summary>
/// What the scheduler goes by in one look: the cluster as it was read, and what was decided since and is being written, as kube-scheduler's cache
/// assumes it. One thread's.
/// </summary>
internal sealed class Snapshot(
    IReadOnlyList<JsonObject> nodes,
    IReadOnlyList<JsonObject> pods,
    IReadOnlyList<JsonObject> claims,
    IReadOnlyList<JsonObject> slices,
    IReadOnlyList<JsonObject> classes
)
{
    private readonly Dictionary<string, JsonObject> _claims = claims.DistinctBy(c => c.Key()).ToDictionary(c => c.Key());
    private readonly HashSet<(string, string, string)> _taken =
    [
        .. claims
            .SelectMany(c => c.Items("status", "allocation", "devices", "results"))
            .Select(r => (r.Text("driver"), r.Text("pool"), r.Text("device"))),
    ];
    private readonly Dictionary<string, IReadOnlyList<OfferedDevice>> _offered = [];
    private readonly IReadOnlyList<OfferedDevice> _devices = OfferedDevice.Of(slices);
    private readonly Dictionary<string, List<JsonObject>> _onNode = pods.Where(p => p.Text("spec", "nodeName").Length > 0 && !p.HasEnded())
        .GroupBy(p => p.Text("spec", "nodeName"))
        .ToDictionary(g => g.Key, g => g.ToList());

    public IReadOnlyList<JsonObject> Nodes => nodes;

    public IReadOnlyList<JsonObject> Classes => classes;

    /// <summary>Devices that are allocated: driver, pool and name.</summary>
    public IReadOnlySet<(string Driver, string Pool, string Device)> Taken => _taken;

    /// <summary>The devices that are offered on a node.</summary>
    public IReadOnlyList<OfferedDevice> OfferedOn(JsonObject node)
    {
        string name = node.Text("metadata", "name");
        if (!_offered.TryGetValue(name, out IReadOnlyList<OfferedDevice>? here))
            _offered[name] = here = [.. _devices.Where(d => d.IsOn(node))];
        return here;
    }

    /// <summary>The pods that have a node, or are about to.</summary>
    public IReadOnlyList<JsonObject> PodsOn(string node) => _onNode.GetValueOrDefault(node) ?? [];

    /// <summary>A pod was given a node.</summary>
    public void Assume(JsonObject pod, string node)
    {
        if (!_onNode.TryGetValue(node, out List<JsonObject>? there))
            _onNode[node] = there = [];
        there.Add(pod);
    }

    /// <summary>A ResourceClaim was given devices, or a pod: for those that come after it in this look.</summary>
    public void Assume(JsonObject claim, JsonObject? allocation)
    {
        if (allocation is null)
            return;
        foreach (JsonObject result in allocation.Items("devices", "results"))
            _taken.Add((result.Text("driver"), result.Text("pool"), result.Text("device")));
        JsonObject assumed = claim.DeepClone().AsObject();
        JsonObject status = assumed["status"]?.AsObject() ?? [];
        status["allocation"] = allocation.DeepClone();
        assumed["status"] = status;
        _claims[claim.Key()] = assumed;
    }

    /// <summary>The ResourceClaims that a pod uses.</summary>
    /// <exception cref="UnschedulableException">One is not there, or is going.</exception>
    public IReadOnlyList<JsonObject> ClaimsOf(JsonObject pod) => [.. pod.Items("spec", "resourceClaims").Select(use => ClaimOf(pod, use))];

    private JsonObject ClaimOf(JsonObject pod, JsonObject use)
    {
        string name = use.Text("resourceClaimName");
        bool isFromTemplate = name.Length == 0;
        if (isFromTemplate)
        {
            name = pod.Items("status", "resourceClaimStatuses")
                .FirstOrDefault(s => s.Text("name") == use.Text("name"))
                .Text("resourceClaimName");
            if (name.Length == 0)
                throw new UnschedulableException($"pod \"{pod.Key()}\": ResourceClaim not created yet");
        }

        JsonObject claim =
            _claims.GetValueOrDefault($"{pod.Text("metadata", "namespace")}/{name}")
            ?? throw new UnschedulableException($"resourceclaim \"{name}\" not found");
        if (claim.At("metadata", "deletionTimestamp") is not null)
            throw new UnschedulableException($"resourceclaim \"{name}\" is being deleted");
        if (isFromTemplate && !claim.Items("metadata", "ownerReferences").Any(o => o.Text("uid") == pod.Uid() && o.IsTrue("controller")))
            throw new UnschedulableException($"ResourceClaim {claim.Key()} was not created for pod {pod.Key()} (pod is not owner)");
        return claim;
    }
}
