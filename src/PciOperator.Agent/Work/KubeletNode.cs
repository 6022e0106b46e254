using System.Text.Json;
using System.Text.Json.Serialization;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;
using PciOperator.Kubelet;
using PciOperator.Kubernetes;
using Prometheus;

namespace PciOperator.Agent;

/// <summary>
/// What the kubelet may hand out on this node, by its PciNode's assignments and the journal, and what the API server says of a
/// ResourceClaim.
/// </summary>
internal sealed class KubeletNode(
    NodeAgentOptions options,
    IEntityClient client,
    Func<PciNode?> read,
    PassthroughHost host,
    ClaimWorker claims,
    EventRecorder events,
    CollectorRegistry metrics
) : IKubeletNode
{
    /// <summary>Kubernetes' own, on a claim that was made from a template: what the pod calls it.</summary>
    private const string PodClaimAnnotation = "resource.kubernetes.io/pod-claim-name";

    private readonly Counter _refused = Metrics
        .WithCustomRegistry(metrics)
        .CreateCounter(
            "pcioperator_agent_refused_handouts_total",
            "ResourceClaims and pods that asked for devices which they may not have, by reason.",
            ["reason"]
        );

    /// <inheritdoc/>
    public IReadOnlyList<OfferedClaim>? Offers
    {
        get
        {
            // Another installation's PciNode gives nothing away here, and one that was made anew says nothing yet.
            if (read() is not { } node || node.Spec.Settling == true || options.Installation?.WhyNotAgentOf(node) is not null)
                return null;
            var held = host.Holdings.ToDictionary(h => h.ClaimUid);
            return [.. (node.Spec.Assignments ?? []).DistinctBy(a => a.ClaimUid).Select(a => Offer(a, held.GetValueOrDefault(a.ClaimUid)))];
        }
    }

    /// <inheritdoc/>
    public async Task<AllocatedClaim?> ReadClaimAsync(string ns, string name, CancellationToken ct)
    {
        try
        {
            using JsonDocument json = await client.GetRawAsync($"/apis/resource.k8s.io/v1/namespaces/{ns}/resourceclaims/{name}", ct);
            return json.Deserialize(ResourceClaimJson.Default.ResourceClaimRead)?.Claim();
        }
        catch (ApiException e) when (e.IsNotFound)
        {
            return null;
        }
    }

    /// <inheritdoc/>
    public void Report(HandoutRefusal refusal)
    {
        _refused.WithLabels(refusal.Reason).Inc();
        if (read() is { } node)
            events.Warning(node, "HandoutRefused", $"{refusal.Reason}: {refusal.Message}", "HandOut");
    }

    private OfferedClaim Offer(PciAssignment assignment, Holding? holding)
    {
        IReadOnlyDictionary<PciAddress, string> names = DraNames.Of(assignment.Devices);
        return new OfferedClaim
        {
            ClaimUid = assignment.ClaimUid,
            Namespace = assignment.ClaimNamespace,
            Name = assignment.ClaimName,
            Pool = DraNames.Pool(assignment.ClaimUid),
            ResourceClaimUid = assignment.ResourceClaimUid is { Length: > 0 } uid ? uid : null,
            ResourceName = assignment.ResourceName is { Length: > 0 } resource ? resource : null,
            IsPrepared = holding?.State == HoldingState.Prepared && ClaimWorker.IsOf(assignment, holding),
            IsBeingPrepared =
                holding is { State: HoldingState.Preparing } || (holding is null && claims.WhyRefused(assignment.ClaimUid) is null),
            WhyNotPrepared = holding is null ? claims.WhyRefused(assignment.ClaimUid) : holding.Message,
            Devices =
            [
                .. InOrder(assignment.Devices)
                    .Select(d => (Device: d, Address: PciAddress.Parse(d.Address)))
                    .Select(d => new OfferedDevice(names[d.Address], d.Address, d.Device.IommuGroup, d.Device.Companion == true)),
            ],
        };
    }

    /// <summary>Requests in the order in which the assignment has them, each one's devices by address, and companions last.</summary>
    private static IEnumerable<AssignedDevice> InOrder(IReadOnlyList<AssignedDevice> devices)
    {
        var requests = devices.Where(d => d.Companion != true).Select(d => d.Request).Distinct().ToList();
        return devices.OrderBy(d => d.Companion == true).ThenBy(d => requests.IndexOf(d.Request)).ThenBy(d => PciAddress.Parse(d.Address));
    }

    /// <summary>The fields of a ResourceClaim that are looked at. The library's model knows all of them, and costs their code.</summary>
    internal sealed record ResourceClaimRead(ClaimMetadata? Metadata, ClaimStatus? Status)
    {
        public AllocatedClaim Claim() =>
            new()
            {
                Uid = Metadata?.Uid ?? "",
                OwnerUid = Metadata
                    ?.OwnerReferences?.FirstOrDefault(o =>
                        o is { ApiVersion: PciOperatorApi.GroupVersion, Kind: nameof(PassthroughClaim), Controller: true }
                    )
                    ?.Uid,
                PodClaimName = Metadata?.Annotations?.GetValueOrDefault(PodClaimAnnotation),
                IsAllocated = Status?.Allocation is not null,
                Devices =
                [
                    .. (Status?.Allocation?.Devices?.Results ?? []).Select(r => new AllocationResult(
                        r.Request ?? "",
                        r.Driver ?? "",
                        r.Pool ?? "",
                        r.Device ?? ""
                    )),
                ],
            };
    }

    internal sealed record ClaimMetadata(string? Uid, Dictionary<string, string>? Annotations, IReadOnlyList<ClaimOwner>? OwnerReferences);

    internal sealed record ClaimOwner(string? ApiVersion, string? Kind, string? Uid, bool? Controller);

    internal sealed record ClaimStatus(ClaimAllocation? Allocation);

    internal sealed record ClaimAllocation(ClaimDevices? Devices);

    internal sealed record ClaimDevices(IReadOnlyList<ClaimResult>? Results);

    internal sealed record ClaimResult(string? Request, string? Driver, string? Pool, string? Device);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(KubeletNode.ResourceClaimRead))]
internal sealed partial class ResourceClaimJson : JsonSerializerContext;
