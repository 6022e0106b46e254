using System.Text.Json.Serialization;
using PciOperator.Cli.Output;

namespace PciOperator.Cli.Ask;

/// <summary>A check of a node.</summary>
internal sealed record CheckView(string Check, bool Passed, string? Why);

/// <summary>A device that a node would give.</summary>
internal sealed record GivenDevice(string Address, string? Request, bool Companion);

/// <summary>What a node says to a claim.</summary>
internal sealed record NodeAnswerView(
    string Node,
    bool Fits,
    IReadOnlyList<CheckView> Checks,
    IReadOnlyList<GivenDevice>? Devices,
    string? Withheld
);

/// <summary>Why a claim is where it is, or waits.</summary>
internal sealed record ExplanationView
{
    public required string Claim { get; init; }

    public required string Requests { get; init; }

    public required string Phase { get; init; }

    /// <summary>The node that it has; null: none.</summary>
    public string? Node { get; init; }

    /// <summary>What the controller would decide now; of a placed claim, what its conditions say.</summary>
    public required string Summary { get; init; }

    public required bool Fits { get; init; }

    public IReadOnlyList<NodeAnswerView>? Nodes { get; init; }
}

/// <summary>How many more of an alias could be served.</summary>
internal sealed record CapacityView
{
    public required string Alias { get; init; }

    /// <summary>Claims for one device each; null: the alias can't be used.</summary>
    public int? More { get; init; }

    public IReadOnlyDictionary<string, int>? Nodes { get; init; }
}

/// <summary>An alias before and after.</summary>
internal sealed record CapacityChange(string Alias, int Now, int After);

/// <summary>What would become of a claim.</summary>
internal sealed record SimulationView
{
    public required string Requests { get; init; }

    public required bool Fits { get; init; }

    public string? Node { get; init; }

    public required string Summary { get; init; }

    public IReadOnlyList<int>? NumaNodes { get; init; }

    public IReadOnlyList<GivenDevice>? Devices { get; init; }

    public required IReadOnlyList<CapacityChange> Capacity { get; init; }
}

/// <summary>Source-generated JSON of what the commands that answer a question write.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    UseStringEnumConverter = true
)]
[JsonSerializable(typeof(ExplanationView))]
[JsonSerializable(typeof(SimulationView))]
[JsonSerializable(typeof(Listing<CapacityView>))]
internal sealed partial class AskJsonContext : JsonSerializerContext;
