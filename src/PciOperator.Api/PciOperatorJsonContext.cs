using System.Text.Json.Serialization;
using PciOperator.Kubernetes;

namespace PciOperator.Api;

/// <summary>Source-generated JSON of PciOperator's resources.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    UseStringEnumConverter = true,
    Converters = [typeof(RequiredTimeConverter)]
)]
[JsonSerializable(typeof(PciDeviceSpec))]
[JsonSerializable(typeof(PciAlias))]
[JsonSerializable(typeof(PassthroughClaim))]
[JsonSerializable(typeof(PciNode))]
[JsonSerializable(typeof(PciQuota))]
public sealed partial class PciOperatorJsonContext : JsonSerializerContext;
