using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using k8s.Models;

namespace PciOperator.Api;

/// <summary>
/// Source-generated JSON of dynamic resource allocation (resource.k8s.io/v1). Apart from <see cref="PciOperatorJsonContext"/>: an agent
/// does without, and what a context knows is code in the program.
/// </summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    UseStringEnumConverter = true
)]
[JsonSerializable(typeof(Resourcev1ResourceClaim))]
[JsonSerializable(typeof(V1ResourceSlice))]
[JsonSerializable(typeof(PassthroughRequest))]
public sealed partial class ResourceJsonContext : JsonSerializerContext
{
    /// <summary>All that a controller reads and writes: our own kinds, and these.</summary>
    // Not kept: a static of this class could be made before the generated half of it has its own.
    public static IJsonTypeInfoResolver WithOwnKinds => JsonTypeInfoResolver.Combine(PciOperatorJsonContext.Default, Default);
}
