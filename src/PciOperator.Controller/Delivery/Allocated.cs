using System.Globalization;
using System.Text.Json.Nodes;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Kubernetes;

namespace PciOperator.Controller;

/// <summary>What kube-scheduler has allocated to a ResourceClaim out of one claim's pool. Pure.</summary>
/// <param name="Resource">The ResourceClaim.</param>
/// <param name="Results">The results that are of the claim's pool.</param>
internal sealed record Allocated(Resourcev1ResourceClaim Resource, IReadOnlyList<V1DeviceRequestAllocationResult> Results)
{
    /// <summary>What a ResourceClaim has of a claim's pool; null: nothing.</summary>
    public static Allocated? Of(Resourcev1ResourceClaim? resource, string claimUid)
    {
        string pool = DraNames.Pool(claimUid);
        var results = (resource?.Status?.Allocation?.Devices?.Results ?? [])
            .Where(r => r.Driver == DraNames.Driver && r.Pool == pool)
            .ToList();
        return results.Count == 0 ? null : new Allocated(resource!, results);
    }

    /// <summary>The node that kube-scheduler took; null: the allocation names none.</summary>
    public string? Node =>
        Terms()
            .SelectMany(t => t.MatchFields ?? [])
            .FirstOrDefault(r => r is { Key: "metadata.name", OperatorProperty: "In", Values.Count: 1 })
            ?.Values[0];

    /// <summary>The hostname label of the node, where the allocation goes by that; null: it doesn't.</summary>
    public string? Hostname =>
        Terms()
            .SelectMany(t => t.MatchExpressions ?? [])
            .FirstOrDefault(r => r is { Key: ResourceObjects.HostnameLabel, OperatorProperty: "In", Values.Count: 1 })
            ?.Values[0];

    /// <summary>Whether kube-scheduler waits for conditions of which none is there yet.</summary>
    public bool Waits =>
        Results.Any(r =>
            (r.BindingConditions ?? []).Contains(DraNames.Bound)
            && !(Resource.Status?.Devices ?? []).Any(d =>
                d.Driver == r.Driver
                && d.Pool == r.Pool
                && d.Device == r.Device
                && (d.Conditions ?? []).Any(c => c.Type is DraNames.Bound or DraNames.Refused && c.Status == "True")
            )
        );

    /// <summary>The status to apply that says one condition of each device.</summary>
    public EntityPatch Say(string condition, string reason, string message, DateTimeOffset now, string fieldManager)
    {
        var devices = new JsonArray();
        foreach (V1DeviceRequestAllocationResult result in Results)
        {
            devices.Add(
                (JsonNode)
                    new JsonObject
                    {
                        ["driver"] = result.Driver,
                        ["pool"] = result.Pool,
                        ["device"] = result.Device,
                        ["conditions"] = new JsonArray(
                            new JsonObject
                            {
                                ["type"] = condition,
                                ["status"] = "True",
                                ["reason"] = reason,
                                ["message"] = message,
                                ["lastTransitionTime"] = now.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture),
                            }
                        ),
                    }
            );
        }

        var status = new JsonObject
        {
            ["apiVersion"] = "resource.k8s.io/v1",
            ["kind"] = "ResourceClaim",
            ["metadata"] = new JsonObject
            {
                ["name"] = Resource.Metadata.Name,
                ["namespace"] = Resource.Metadata.NamespaceProperty,
                ["uid"] = Resource.Metadata.Uid,
            },
            ["status"] = new JsonObject { ["devices"] = devices },
        };
        return EntityPatch.Apply(status.ToJsonString(), fieldManager, force: true);
    }

    private IEnumerable<V1NodeSelectorTerm> Terms() => Resource.Status?.Allocation?.NodeSelector?.NodeSelectorTerms ?? [];
}
