using System.Text.Json.Serialization;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>Devices that the cluster gave to one claim on this host.</summary>
public sealed record AssignmentRequest
{
    /// <summary>The claim's UID; names its journal entry.</summary>
    public required string ClaimUid { get; init; }

    /// <summary>The claim's namespace, for messages.</summary>
    public required string ClaimNamespace { get; init; }

    /// <summary>The claim's name, for messages.</summary>
    public required string ClaimName { get; init; }

    /// <summary>Every device of the claim, companions included: whole IOMMU groups.</summary>
    public required IReadOnlyList<DeviceToTake> Devices { get; init; }
}

/// <summary>
/// One device as the cluster knows it; it is taken only when the host still shows the same. The journal keeps all of it
/// (<see cref="JournalDevice"/>).
/// </summary>
public record DeviceToTake
{
    /// <summary>Where it was seen.</summary>
    public required PciAddress Address { get; init; }

    /// <summary>The vendor that must be there.</summary>
    public required PciId VendorId { get; init; }

    /// <summary>The product that must be there.</summary>
    public required PciId ProductId { get; init; }

    /// <summary>Its stable id (<see cref="PciFunction.StableId"/>); null: not checked.</summary>
    public string? StableId { get; init; }

    /// <summary>Its IOMMU group; null: not checked (it must have one nevertheless).</summary>
    public int? IommuGroup { get; init; }

    /// <summary>What to bind it to.</summary>
    [JsonRequired]
    public BindDriver Driver { get; init; } = BindDriver.VfioPci;

    /// <summary>False: the administrator binds it, and it is only checked.</summary>
    [JsonRequired]
    public bool Managed { get; init; } = true;

    /// <summary>Whether it is reset before its owner gets it and after.</summary>
    public ResetMode Reset { get; init; } = ResetMode.BestEffort;

    /// <summary>After this owner it stays withheld until an administrator frees it.</summary>
    public bool OneTimeUse { get; init; }
}
