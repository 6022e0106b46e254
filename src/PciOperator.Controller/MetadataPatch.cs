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

    internal sealed record FinalizersPatch(FinalizersPatchMetadata Metadata);

    internal sealed record FinalizersPatchMetadata(string? ResourceVersion, string? Uid, IReadOnlyList<string> Finalizers);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(MetadataPatch.FinalizersPatch))]
internal sealed partial class MetadataPatchJson : JsonSerializerContext;
