using System.Text.Json.Serialization;

namespace PciOperator.Kubelet;

/// <summary>
/// A ResourceClaim whose devices were handed out: a checkpoint, from which all files that were written for it can be written again.
/// </summary>
internal sealed record PreparedClaim
{
    public const int CurrentFormat = 1;

    public required int FormatVersion { get; init; }

    /// <summary>The boot that the nodes' numbers hold for.</summary>
    public required string BootId { get; init; }

    /// <summary>The ResourceClaim's.</summary>
    public required string Uid { get; init; }

    public required string Namespace { get; init; }

    public required string Name { get; init; }

    /// <summary>Of a template's claim: what the pod calls it.</summary>
    public string? PodClaimName { get; init; }

    /// <summary>The claim of ours that has the devices.</summary>
    public required string ClaimUid { get; init; }

    public required IReadOnlyList<PreparedDevice> Devices { get; init; }

    [JsonIgnore]
    public ClaimReference Reference => new(Namespace, Name, Uid);

    public bool Equals(PreparedClaim? other) =>
        other is not null
        && (BootId, Uid, Namespace, Name, PodClaimName, ClaimUid)
            == (other.BootId, other.Uid, other.Namespace, other.Name, other.PodClaimName, other.ClaimUid)
        && Devices.SequenceEqual(other.Devices);

    public override int GetHashCode() => HashCode.Combine(Uid, ClaimUid, Devices.Count);
}

/// <summary>One device of a prepared claim.</summary>
internal sealed record PreparedDevice
{
    public required string Request { get; init; }

    public required string Pool { get; init; }

    public required string Device { get; init; }

    public required string Address { get; init; }

    public required IReadOnlyList<string> Nodes { get; init; }

    public int? NumaNode { get; init; }

    public string? PcieRoot { get; init; }

    public bool Equals(PreparedDevice? other) =>
        other is not null
        && (Request, Pool, Device, Address, NumaNode, PcieRoot)
            == (other.Request, other.Pool, other.Device, other.Address, other.NumaNode, other.PcieRoot)
        && Nodes.SequenceEqual(other.Nodes);

    public override int GetHashCode() => HashCode.Combine(Request, Device, Address);
}

/// <summary>The first look at a file: only its version.</summary>
internal sealed record PreparedClaimVersion
{
    public int FormatVersion { get; init; }
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    WriteIndented = true,
    RespectNullableAnnotations = true,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull
)]
[JsonSerializable(typeof(PreparedClaim))]
[JsonSerializable(typeof(PreparedClaimVersion))]
internal sealed partial class PreparedClaimJson : JsonSerializerContext;
