using System.Text.Json;
using System.Text.Json.Serialization;
using PciOperator.Kubernetes;
using PciOperator.Kubernetes.Models;

namespace PciOperator.Controller;

/// <summary>Patches of metadata that hold only for the version that was looked at.</summary>
internal static class MetadataPatch
{
    /// <summary>Sets an object's finalizers.</summary>
    public static KubernetesPatch Finalizers(V1ObjectMeta metadata, IReadOnlyList<string> finalizers) =>
        KubernetesPatch.Merge(JsonSerializer.Serialize(
            new FinalizersPatch(new(metadata.ResourceVersion, metadata.Uid, finalizers)), MetadataPatchJson.Default.FinalizersPatch));

    /// <summary>Sets an object's owners.</summary>
    public static KubernetesPatch Owners(V1ObjectMeta metadata, IReadOnlyList<V1OwnerReference> owners) =>
        KubernetesPatch.Merge(JsonSerializer.Serialize(
            new OwnersPatch(new(metadata.ResourceVersion, metadata.Uid, owners)), MetadataPatchJson.Default.OwnersPatch));

    /// <summary>Removes an annotation that still has the value that was seen.</summary>
    public static KubernetesPatch WithoutAnnotation(V1ObjectMeta metadata, string name, string value)
    {
        var path = "/metadata/annotations/" + name.Replace("~", "~0", StringComparison.Ordinal).Replace("/", "~1", StringComparison.Ordinal);
        return KubernetesPatch.Json($$"""
            [{"op":"test","path":"/metadata/uid","value":"{{metadata.Uid}}"},
             {"op":"test","path":"{{path}}","value":{{JsonSerializer.Serialize(value, MetadataPatchJson.Default.String)}}},
             {"op":"remove","path":"{{path}}"}]
            """);
    }

    internal sealed record OwnersPatch(OwnersPatchMetadata Metadata);

    internal sealed record OwnersPatchMetadata(string? ResourceVersion, string? Uid, IReadOnlyList<V1OwnerReference> OwnerReferences);

    internal sealed record FinalizersPatch(FinalizersPatchMetadata Metadata);

    internal sealed record FinalizersPatchMetadata(string? ResourceVersion, string? Uid, IReadOnlyList<string> Finalizers);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(MetadataPatch.FinalizersPatch))]
[JsonSerializable(typeof(MetadataPatch.OwnersPatch))]
[JsonSerializable(typeof(string))]
internal sealed partial class MetadataPatchJson : JsonSerializerContext;
