using PciOperator.Api;
using PciOperator.Cli.Cluster;
using PciOperator.Cli.Output;
using PciOperator.Core;
using PciOperator.Placement;

namespace PciOperator.Cli.See;

/// <summary>One PCI function of the cluster.</summary>
internal sealed record DeviceView
{
    public required string Node { get; init; }

    public required string Address { get; init; }

    public required string Name { get; init; }

    public required string VendorId { get; init; }

    public required string ProductId { get; init; }

    public string? ClassCode { get; init; }

    /// <summary>Nova's word: type-PCI, type-PF, type-VF or vdpa.</summary>
    public required string Type { get; init; }

    public string? ParentAddress { get; init; }

    public string? Driver { get; init; }

    public string? Interface { get; init; }

    public int? NumaNode { get; init; }

    public int? Socket { get; init; }

    public string? PcieRoot { get; init; }

    public int? IommuGroup { get; init; }

    /// <summary>The PciDeviceSpec that offers it; null: none does.</summary>
    public string? Spec { get; init; }

    /// <summary>Nova's word, or <c>bridge</c>, or <c>unmatched</c> for what no spec names.</summary>
    public required string State { get; init; }

    /// <summary>The claim that has it, as <c>namespace/name</c>.</summary>
    public string? Claim { get; init; }

    public string? ClaimUid { get; init; }

    /// <summary>The claim's request that it serves.</summary>
    public string? Request { get; init; }

    /// <summary>How far the node's agent is with the claim.</summary>
    public string? Holding { get; init; }

    /// <summary>Why it is not offered.</summary>
    public string? Reason { get; init; }

    public string? WithheldBy { get; init; }

    /// <summary>The reset that has worked on it.</summary>
    public string? ProvenReset { get; init; }

    public int? TotalVfs { get; init; }

    public int? NumVfs { get; init; }

    public IReadOnlyList<string>? Problems { get; init; }

    /// <summary>Of a VF, where it was asked for and its PF's driver counts.</summary>
    public TrafficView? Traffic { get; init; }

    /// <summary>All devices of nodes, by node and address.</summary>
    public static IReadOnlyList<DeviceView> Of(IReadOnlyList<PciNode> nodes, DeviceNames names) =>
        [
            .. nodes.SelectMany(node =>
            {
                var owners = new Owners(node);
                NodeInventory inventory = ClusterView.InventoryOf(node);
                return (node.Status?.Devices ?? [])
                    .Select(d => Of(node, d, owners.Of(d.Address), inventory.WhyNotOffered(PciAddress.Parse(d.Address)), names))
                    .OrderBy(d => d.Order);
            }),
        ];

    /// <summary>
    /// The same with what no spec names and no group of theirs brings along, as far as the nodes' agents say it (<see cref="PciNodeStatus.Unmatched"/>).
    /// </summary>
    public static IReadOnlyList<DeviceView> All(IReadOnlyList<PciNode> nodes, DeviceNames names) =>
        [
            .. Of(nodes, names)
                .Concat(nodes.SelectMany(node => (node.Status?.Unmatched ?? []).Select(d => Of(node, d, null, null, names))))
                .GroupBy(d => d.Node)
                .SelectMany(g => g.OrderBy(d => d.Order)),
        ];

    /// <summary>Sorts by address as numbers: domain 10000 is after 0000.</summary>
    private PciAddress Order => PciAddress.TryParse(Address, out PciAddress address) ? address : default;

    /// <summary>Free, now.</summary>
    public bool IsFree => State == "available";

    /// <summary>The state's colour.</summary>
    public Tone Tone =>
        State switch
        {
            "available" => Problems is null ? Tone.Good : Tone.Busy,
            "claimed" or "allocated" or "unclaimable" => Tone.Busy,
            "unavailable" or "removed" => Tone.Bad,
            _ => Tone.Faint,
        };

    private static DeviceView Of(PciNode node, PciNodeDevice device, Owner? owner, string? whyNot, DeviceNames names) =>
        new()
        {
            Node = node.Metadata.Name,
            Address = device.Address,
            Name = names.Of(device),
            VendorId = device.VendorId,
            ProductId = device.ProductId,
            ClassCode = device.ClassCode,
            Type = device.Type.ToNova(),
            ParentAddress = device.ParentAddress,
            Driver = device.Driver,
            Interface = device.DeviceName,
            NumaNode = device.NumaNode,
            Socket = device.Socket,
            PcieRoot = device.PcieRoot,
            IommuGroup = device.IommuGroup,
            Spec = device.Rule,
            State = StateOf(device, owner, whyNot),
            Claim = owner?.Claim,
            ClaimUid = owner?.Uid,
            Request = owner?.Request,
            Holding = owner?.Holding?.ToString(),
            Reason = device.Reason ?? (device.State == DeviceState.Available && owner is null ? whyNot : null),
            WithheldBy = device.WithheldBy,
            ProvenReset = device.ProvenReset,
            TotalVfs = device.TotalVfs,
            NumVfs = device.NumVfs,
            Problems = device.Problems is { Count: > 0 } problems
                ? [.. problems.Select(p => string.IsNullOrEmpty(p.Message) ? p.Type : $"{p.Type}: {p.Message}")]
                : null,
        };

    /// <summary>
    /// The agent's word, but for what the agent doesn't know: what the spec assigns is given away although the agent has not taken it up yet,
    /// and what the allocator would not give is not available.
    /// </summary>
    private static string StateOf(PciNodeDevice device, Owner? owner, string? whyNot) =>
        (device.State, owner) switch
        {
            (null or DeviceState.Available, not null) => DeviceState.Claimed.ToNova(),
            (_, null) when device.Bridge == true => "bridge",
            (null or DeviceState.Available, null) when device.Rule is null => "unmatched",
            (null, null) => DeviceState.Unavailable.ToNova(),
            (DeviceState.Available, null) when whyNot is not null => DeviceState.Unavailable.ToNova(),
            (DeviceState state, _) => state.ToNova(),
        };
}
