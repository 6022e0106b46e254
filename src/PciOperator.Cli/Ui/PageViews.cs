using System.Text.Json.Serialization;
using PciOperator.Cli.Ask;
using PciOperator.Cli.See;

namespace PciOperator.Cli.Ui;

/// <summary>A node of the page.</summary>
internal sealed record NodeCard
{
    /// <summary>As <c>kubectl pci nodes</c> has it.</summary>
    public required NodeView Node { get; init; }

    /// <summary>Why no claim is placed on it: it is not Ready, or cordoned; null: neither, or the caller may not list nodes.</summary>
    public string? Unusable { get; init; }

    /// <summary>What its PciNode's conditions say that are not as they should be, and what of it could not be read.</summary>
    public required IReadOnlyList<string> Problems { get; init; }

    /// <summary>Its NUMA nodes with their sockets, also those without a device.</summary>
    public required IReadOnlyList<NumaCard> NumaNodes { get; init; }

    /// <summary>What a spec names, as <c>kubectl pci devices</c> has it, and the rest of the IOMMU groups.</summary>
    public required IReadOnlyList<DeviceView> Devices { get; init; }

    /// <summary>The IOMMU groups that are not offered, with the reason.</summary>
    public required IReadOnlyList<GroupCard> Groups { get; init; }
}

/// <summary>A NUMA node.</summary>
internal sealed record NumaCard(int Id, int? Socket);

/// <summary>An IOMMU group that is not offered.</summary>
internal sealed record GroupCard(int Group, string? Reason);

/// <summary>An alias of the page.</summary>
/// <param name="Alias">Its name.</param>
/// <param name="IsUsable">Whether claims can ask for it.</param>
/// <param name="Capacity">As <c>kubectl pci capacity</c> has it; null: not worked out yet, or the caller may not list what it takes.</param>
internal sealed record AliasCard(string Alias, bool IsUsable, CapacityView? Capacity);

/// <summary>How the page's sources are.</summary>
internal sealed record StatusCard
{
    /// <summary>The API server's address.</summary>
    public required string Server { get; init; }

    /// <summary>The only namespace whose claims are shown; null: all.</summary>
    public string? Namespace { get; init; }

    /// <summary>Why only that one is; null: it was asked for, or all are shown.</summary>
    public string? NamespaceReason { get; init; }

    /// <summary>Since when the API server doesn't answer; null: it does.</summary>
    public DateTimeOffset? LostSince { get; init; }

    /// <summary>Why it doesn't.</summary>
    public string? Message { get; init; }

    /// <summary>The program's clock.</summary>
    public required DateTimeOffset Now { get; init; }

    public required IReadOnlyList<SourceCard> Sources { get; init; }
}

/// <summary>A kind of object that the page is made of.</summary>
/// <param name="Kind">Its plural: <c>pcinodes</c>.</param>
/// <param name="State"><c>live</c>, <c>reading</c> (the first list is not in), <c>forbidden</c>, or <c>behind</c>: its watch is broken.</param>
/// <param name="Message">Why; of a live one which objects could not be read.</param>
internal sealed record SourceCard(string Kind, string State, string? Message);

/// <summary>An explanation, or why there is none.</summary>
internal sealed record ExplanationCard(ExplanationView? Explanation, string? Error);

/// <summary>Source-generated JSON of what the page is told.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    UseStringEnumConverter = true
)]
[JsonSerializable(typeof(NodeCard))]
[JsonSerializable(typeof(ClaimView))]
[JsonSerializable(typeof(AliasCard))]
[JsonSerializable(typeof(StatusCard))]
[JsonSerializable(typeof(ExplanationCard))]
[JsonSerializable(typeof(string))]
internal sealed partial class PageJsonContext : JsonSerializerContext;
