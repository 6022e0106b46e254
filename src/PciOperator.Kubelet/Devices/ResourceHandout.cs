using PciOperator.Host;

namespace PciOperator.Kubelet;

/// <summary>Devices as a container gets them by an extended resource.</summary>
/// <param name="Environment">The variable that KubeVirt's launcher reads, and the addresses in it.</param>
/// <param name="Nodes">The device nodes.</param>
internal sealed record ResourceDevices((string Name, string Value) Environment, IReadOnlyList<string> Nodes);

/// <summary>Devices were not handed out; the message is for whoever looks at the pod.</summary>
internal sealed class HandoutException(string message) : Exception(message);

/// <summary>
/// What a claim's extended resource comes to: a device for each that was asked for, with its companions. What a kubelet was told is on disk
/// before it is told.
/// </summary>
internal sealed class ResourceHandout(
    KubeletOptions options,
    IKubeletNode node,
    IHostFileSystem files,
    PreparedClaims prepared,
    Allocations allocations,
    PodDevices pods
)
{
    /// <summary>The claims that are handed out by an extended resource, none twice under one name; null: that is not known now.</summary>
    public IReadOnlyList<OfferedClaim>? Offers =>
        node.Offers is { } offers
            ?
            [
                .. offers
                    .Where(o => o.ResourceName is not null)
                    .OrderBy(o => o.ClaimUid, StringComparer.Ordinal)
                    .DistinctBy(o => o.ResourceName),
            ]
            : null;

    /// <summary>What is offered of a claim; null: nothing.</summary>
    public OfferedClaim? Find(string claimUid) => Offers?.FirstOrDefault(o => o.ClaimUid == claimUid);

    /// <summary>Devices that a container is to get.</summary>
    /// <exception cref="HandoutException">It can't get them.</exception>
    /// <exception cref="HostIoException">The host can't be read, or it can't be kept what was allocated.</exception>
    public ResourceDevices Allocate(string claimUid, IReadOnlyList<string> ids)
    {
        OfferedClaim offer = Ready(claimUid);
        if (prepared.All.FirstOrDefault(c => c.ClaimUid == claimUid)?.Reference is { } other)
            throw new HandoutException($"the devices of PassthroughClaim {Name(offer)} are handed out to ResourceClaim {other} already");
        IReadOnlyList<OfferedDevice> asked = Asked(offer, ids);
        IReadOnlyDictionary<string, IReadOnlyList<string>> nodes = NodesOf(offer, asked);
        allocations.Add(claimUid, nodes);
        return new ResourceDevices(
            (VariableOf(offer.ResourceName!), string.Join(',', asked.Select(d => d.Address))),
            [.. nodes.Values.SelectMany(n => n).Distinct(StringComparer.Ordinal)]
        );
    }

    /// <summary>Looks once more before a container starts: at the devices, and at whose pod it is.</summary>
    /// <exception cref="HandoutException">It must not start.</exception>
    /// <exception cref="HostIoException">The host can't be read.</exception>
    public async Task CheckAsync(string claimUid, IReadOnlyList<string> ids, CancellationToken ct)
    {
        OfferedClaim offer = Ready(claimUid);
        IReadOnlyList<OfferedDevice> asked = Asked(offer, ids);
        IReadOnlyDictionary<string, IReadOnlyList<string>> now = NodesOf(offer, asked);
        Allocation? told = allocations.Find(claimUid);
        foreach ((string device, IReadOnlyList<string> nodes) in now)
        {
            // The kubelet gives a container what it was told once, and the kernel numbers anew at each boot.
            if (told?.Nodes.GetValueOrDefault(device) is not { } before || !before.SequenceEqual(nodes))
            {
                throw new HandoutException(
                    $"{device} of PassthroughClaim {Name(offer)} is reached by other device nodes than when the pod was given it: make the pod anew"
                );
            }
        }

        IReadOnlyList<PodReference> users = await pods.UsersAsync(offer.ResourceName!, ids, ct);
        if (users.Count == 0)
            throw new HandoutException($"the kubelet names no pod that has {offer.ResourceName}: it is tried again");
        if (users.FirstOrDefault(p => p.Namespace != offer.Namespace) is not { } stranger)
            return;
        string why = $"pod {stranger} has {offer.ResourceName}, which only pods of namespace {offer.Namespace} may have";
        node.Report(new HandoutRefusal("OtherNamespace", why));
        throw new HandoutException(why);
    }

    /// <summary>The name of the variable by which KubeVirt's launcher finds a resource's addresses.</summary>
    public static string VariableOf(string resource) => "PCI_RESOURCE_" + resource.ToUpperInvariant().Replace('/', '_').Replace('.', '_');

    private OfferedClaim Ready(string claimUid)
    {
        if (Find(claimUid) is not { } offer)
            throw new HandoutException("its PassthroughClaim has no devices on this node any more");
        return ClaimChecks.Readiness(offer, offer.Devices.Select(d => VfioBinding.Read(files, d.Address))) is { } problem
            ? throw new HandoutException(problem.Message)
            : offer;
    }

    /// <summary>In the order of the offer, whatever the kubelet's is: a launcher takes addresses by their position.</summary>
    private static IReadOnlyList<OfferedDevice> Asked(OfferedClaim offer, IReadOnlyList<string> ids)
    {
        var asked = offer.Devices.Where(d => !d.IsCompanion && ids.Contains(d.Name)).ToList();
        return asked.Count == ids.Distinct().Count() && asked.Count > 0
            ? asked
            : throw new HandoutException(
                $"PassthroughClaim {Name(offer)} has no device {string.Join(", ", ids.Where(i => asked.All(d => d.Name != i)))}"
            );
    }

    /// <summary>Companions go along with what is of their IOMMU group.</summary>
    private Dictionary<string, IReadOnlyList<string>> NodesOf(OfferedClaim offer, IReadOnlyList<OfferedDevice> asked) =>
        asked.ToDictionary(
            d => d.Name,
            IReadOnlyList<string> (d) =>
                [
                    .. VfioBinding
                        .Read(files, d.Address)
                        .Nodes.Concat(
                            offer
                                .Devices.Where(c => c.IsCompanion && c.Group == d.Group)
                                .SelectMany(c => VfioBinding.Read(files, c.Address).Nodes)
                        )
                        .Distinct(StringComparer.Ordinal),
                ],
            StringComparer.Ordinal
        );

    private static string Name(OfferedClaim offer) => $"{offer.Namespace}/{offer.Name}";

    /// <summary>The devices that a kubelet counts, and how they are.</summary>
    public IReadOnlyList<(string Id, bool IsHealthy, int? NumaNode)> Devices(OfferedClaim offer) =>
        [
            .. offer
                .Devices.Where(d => !d.IsCompanion)
                .Select(d =>
                {
                    var binding = VfioBinding.Read(files, d.Address);
                    return (d.Name, offer.IsPrepared && binding.WhyNot is null, binding.NumaNode);
                }),
        ];

    /// <summary>The kubelet's folder for device plugins, on the host.</summary>
    public string Folder => $"{options.KubeletDirectory.TrimEnd('/')}/device-plugins";
}
