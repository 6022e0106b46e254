using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Kubernetes;

namespace PciOperator.Controller;

/// <summary>One entry of KubeVirt's <c>permittedHostDevices.pciHostDevices</c>.</summary>
/// <param name="VendorSelector">Vendor and device id, as KubeVirt writes them: <c>10DE:1EB8</c>.</param>
/// <param name="ResourceName">The extended resource that a VM asks for.</param>
public readonly record struct PermittedHostDevice(string VendorSelector, string ResourceName);

/// <summary>
/// Keeps KubeVirt's list of permitted host devices in step with the claims that the device plugin delivers: KubeVirt starts no VM that
/// asks for a resource that is not in the list, where there is a list. Nobody else's entries are touched, and where there is no list none is
/// made: KubeVirt asks for nothing then, and the first entry would forbid all others.
/// </summary>
/// <param name="client">The API server.</param>
/// <param name="claims">All claims, as they are now.</param>
/// <param name="log">Says what was written, and once why nothing can be.</param>
/// <remarks>
/// It needs list and patch of <c>kubevirts.kubevirt.io</c>, which is no part of the installation by itself (config/kubevirt). Calls
/// don't overlap: one caller, one call at a time.
/// </remarks>
public sealed class PermittedHostDevices(IEntityClient client, Func<IEnumerable<PassthroughClaim>> claims, ILogger log)
{
    /// <summary>How our entries are known, together with externalResourceProvider.</summary>
    private const string OwnPrefix = PciOperatorApi.Group + "/";
    private const string KubeVirts = "/apis/kubevirt.io/v1/kubevirts";
    private const int Attempts = 3;
    private bool _saidForbidden;

    /// <summary>What the claims that are delivered by the device plugin need, in a fixed order.</summary>
    public static IReadOnlyList<PermittedHostDevice> Wanted(IEnumerable<PassthroughClaim> claims) =>
        [
            .. claims
                .Where(c => c.Status?.ResourceName is { Length: > 0 })
                .SelectMany(c =>
                    (c.Status!.Devices ?? [])
                        .Where(d => d is { Companion: not true, VendorId.Length: 4, ProductId.Length: 4 })
                        .Select(d => new PermittedHostDevice($"{d.VendorId}:{d.ProductId}".ToUpperInvariant(), c.Status.ResourceName!))
                )
                .Distinct()
                .OrderBy(d => d.ResourceName, StringComparer.Ordinal)
                .ThenBy(d => d.VendorSelector, StringComparer.Ordinal),
        ];

    /// <summary>The list as it has to be; null when it is so already, or there is none to keep.</summary>
    /// <param name="kubeVirt">A KubeVirt object.</param>
    /// <param name="wanted">By <see cref="Wanted"/>.</param>
    public static JsonArray? Merge(JsonObject kubeVirt, IReadOnlyList<PermittedHostDevice> wanted)
    {
        if (kubeVirt["spec"]?["configuration"]?["permittedHostDevices"] is not JsonObject permitted)
            return null;
        if (permitted["pciHostDevices"] is not (null or JsonArray))
            return null;
        JsonArray before = permitted["pciHostDevices"] as JsonArray ?? [];
        var own = before.Select(Own).Where(d => d is not null).Select(d => d!.Value).ToList();
        if (own.Count == wanted.Count && own.ToHashSet().SetEquals(wanted))
            return null;
        var after = new JsonArray();
        foreach (JsonNode? entry in before.Where(e => Own(e) is null))
            after.Add(entry?.DeepClone());
        foreach (PermittedHostDevice device in wanted)
        {
            JsonNode entry = new JsonObject
            {
                ["pciVendorSelector"] = device.VendorSelector,
                ["resourceName"] = device.ResourceName,
                ["externalResourceProvider"] = true,
            };
            after.Add(entry);
        }

        return after;
    }

    /// <summary>Looks at every KubeVirt object and writes those that are not as they have to be.</summary>
    /// <exception cref="ApiException">The server refused for another reason than that KubeVirt or the right is missing.</exception>
    public async Task SyncAsync(CancellationToken ct)
    {
        for (int attempt = 1; ; attempt++)
        {
            try
            {
                foreach (JsonObject kubeVirt in await ListAsync(ct))
                    await WriteAsync(kubeVirt, ct);
                return;
            }
            catch (ApiException changed) when (changed.IsConflict && attempt < Attempts)
            {
                // Somebody wrote since it was read: again, from what is there now.
            }
            catch (ApiException forbidden) when (forbidden.IsForbidden)
            {
                if (!_saidForbidden)
                {
                    log.LogInformation(
                        "KubeVirt's permittedHostDevices are not kept in step, for want of config/kubevirt: {Error}",
                        forbidden.Message
                    );
                }

                _saidForbidden = true;
                return;
            }
        }
    }

    private static PermittedHostDevice? Own(JsonNode? entry) =>
        entry is JsonObject device
        && device["externalResourceProvider"] is JsonValue external
        && external.TryGetValue(out bool isExternal)
        && isExternal
        && device["resourceName"] is JsonValue name
        && name.TryGetValue(out string? resource)
        && resource.StartsWith(OwnPrefix, StringComparison.Ordinal)
            ? new PermittedHostDevice(device["pciVendorSelector"]?.ToString() ?? "", resource)
            : null;

    private async Task<IReadOnlyList<JsonObject>> ListAsync(CancellationToken ct)
    {
        try
        {
            using JsonDocument answer = await client.GetRawAsync(KubeVirts, ct);
            return [.. (JsonNode.Parse(answer.RootElement.GetRawText())?["items"] as JsonArray ?? []).OfType<JsonObject>()];
        }
        catch (ApiException none) when (none.IsNotFound)
        {
            return [];
        }
    }

    private async Task WriteAsync(JsonObject kubeVirt, CancellationToken ct)
    {
        IReadOnlyList<PermittedHostDevice> wanted = Wanted(claims());
        if (Merge(kubeVirt, wanted) is not { } list || kubeVirt["metadata"] is not JsonObject metadata)
            return;
        var patch = new JsonObject
        {
            ["metadata"] = new JsonObject
            {
                ["resourceVersion"] = metadata["resourceVersion"]?.ToString(),
                ["uid"] = metadata["uid"]?.ToString(),
            },
            ["spec"] = new JsonObject
            {
                ["configuration"] = new JsonObject { ["permittedHostDevices"] = new JsonObject { ["pciHostDevices"] = list } },
            },
        };
        string path = $"/apis/kubevirt.io/v1/namespaces/{metadata["namespace"]}/kubevirts/{metadata["name"]}";
        (
            await client.SendRawAsync(
                HttpMethod.Patch,
                path,
                Encoding.UTF8.GetBytes(patch.ToJsonString()),
                "application/merge-patch+json",
                ct
            )
        ).Dispose();
        log.LogInformation(
            "KubeVirt {Namespace}/{Name} permits {Count} entries of PciOperator's",
            metadata["namespace"],
            metadata["name"],
            wanted.Count
        );
    }
}
