using System.Text.Json.Serialization;
using PciOperator.Cli.Output;

namespace PciOperator.Cli.See;

/// <summary>Source-generated JSON of what the commands that show something answer with.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    UseStringEnumConverter = true
)]
[JsonSerializable(typeof(Listing<DeviceView>))]
[JsonSerializable(typeof(Listing<GroupView>))]
[JsonSerializable(typeof(Listing<FunctionView>))]
[JsonSerializable(typeof(Listing<NodeView>))]
[JsonSerializable(typeof(Listing<ClaimView>))]
[JsonSerializable(typeof(Listing<HolderView>))]
internal sealed partial class ViewJsonContext : JsonSerializerContext;
