using System.Reflection;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using k8s.Models;

namespace PciOperator.Kubernetes;

/// <summary>Of this kind's metadata only what tells objects apart, times, the controlling owner and the program's own finalizer are read: whoever can write such
/// an object can fill labels, annotations, owners and finalizers with a megabyte each, and nothing here needs them. Writing is
/// as ever.</summary>
/// <param name="finalizer">The program's own finalizer; others are counted (<see cref="LeanObjectMeta"/>).</param>
[AttributeUsage(AttributeTargets.Class)]
public sealed class LeanMetadataAttribute(string finalizer) : Attribute
{
    /// <summary>The program's own finalizer.</summary>
    public string Finalizer { get; } = finalizer;
}

/// <summary>Metadata of a kind with <see cref="LeanMetadataAttribute"/>: of its finalizers only the program's own.</summary>
public sealed record LeanObjectMeta : V1ObjectMeta
{
    /// <summary>How many others there are.</summary>
    public int ForeignFinalizers { get; set; }

    /// <summary>How many of them stand before the program's own.</summary>
    public int ForeignFinalizersBefore { get; set; }
}

/// <summary>Reads metadata without what is not kept, so that it is never in memory.</summary>
internal sealed class LeanMetadataConverter(string finalizer) : JsonConverter<V1ObjectMeta>
{
    /// <summary>Puts the converter where an entity asks for it.</summary>
    public static void Modify(JsonTypeInfo type)
    {
        if (type.Kind != JsonTypeInfoKind.Object || type.Type.GetCustomAttribute<LeanMetadataAttribute>() is not { } lean)
            return;
        foreach (JsonPropertyInfo property in type.Properties)
        {
            if (property.PropertyType == typeof(V1ObjectMeta))
                property.CustomConverter = new LeanMetadataConverter(lean.Finalizer);
        }
    }

    public override V1ObjectMeta Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
            throw new JsonException($"Expected metadata, got a JSON {reader.TokenType}.");
        var meta = new LeanObjectMeta();
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            Property(ref reader, meta);
        return meta;
    }

    public override void Write(Utf8JsonWriter writer, V1ObjectMeta value, JsonSerializerOptions options) =>
        JsonSerializer.Serialize(writer, value, options.TypeInfo<V1ObjectMeta>());

    private void Property(ref Utf8JsonReader reader, LeanObjectMeta meta)
    {
        if (Take(ref reader, "name"u8))
            meta.Name = reader.GetString();
        else if (Take(ref reader, "namespace"u8))
            meta.NamespaceProperty = reader.GetString();
        else if (Take(ref reader, "uid"u8))
            meta.Uid = reader.GetString();
        else if (Take(ref reader, "resourceVersion"u8))
            meta.ResourceVersion = reader.GetString();
        else if (Take(ref reader, "generation"u8))
            meta.Generation = reader.TokenType == JsonTokenType.Null ? null : LenientInt64Converter.Read(ref reader);
        else if (Take(ref reader, "creationTimestamp"u8))
            meta.CreationTimestamp = KubernetesTime.Read(ref reader)?.UtcDateTime;
        else if (Take(ref reader, "deletionTimestamp"u8))
            meta.DeletionTimestamp = KubernetesTime.Read(ref reader)?.UtcDateTime;
        else if (Take(ref reader, "finalizers"u8) && reader.TokenType == JsonTokenType.StartArray)
            Finalizers(ref reader, meta);
        else if (Take(ref reader, "ownerReferences"u8) && reader.TokenType == JsonTokenType.StartArray)
            Owners(ref reader, meta);
        else if (reader.TokenType == JsonTokenType.PropertyName)
            SkipProperty(ref reader);
        else
            reader.PassOver();
    }

    /// <summary>Of owners the one that controls the object, of which there is one at most.</summary>
    private static void Owners(ref Utf8JsonReader reader, LeanObjectMeta meta)
    {
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType != JsonTokenType.StartObject)
            {
                reader.PassOver();
                continue;
            }

            if (!Controls(reader))
            {
                reader.PassOver();
                continue;
            }

            V1OwnerReference owner = Owner(ref reader);
            if (owner is { Kind: not null, Name: not null, Uid: not null })
                meta.OwnerReferences = [owner];
        }
    }

    /// <summary>Whether the owner that a reader stands at is the controlling one; it takes a copy of the reader, so that nothing is made of the
    /// others.</summary>
    private static bool Controls(Utf8JsonReader reader)
    {
        bool controls = false;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (Take(ref reader, "controller"u8))
                controls = reader.TokenType == JsonTokenType.True;
            if (reader.TokenType == JsonTokenType.PropertyName)
                SkipProperty(ref reader);
            else
                reader.PassOver();
        }

        return controls;
    }

    // A text that is longer than any that means something is not kept.
    private static V1OwnerReference Owner(ref Utf8JsonReader reader)
    {
        const int longest = 253;
        var owner = new V1OwnerReference();
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (Take(ref reader, "apiVersion"u8))
                owner.ApiVersion = Short(ref reader);
            else if (Take(ref reader, "kind"u8))
                owner.Kind = Short(ref reader);
            else if (Take(ref reader, "name"u8))
                owner.Name = Short(ref reader);
            else if (Take(ref reader, "uid"u8))
                owner.Uid = Short(ref reader);
            else if (Take(ref reader, "controller"u8))
                owner.Controller = reader.TokenType == JsonTokenType.True;
            else if (reader.TokenType == JsonTokenType.PropertyName)
                SkipProperty(ref reader);
            else
                reader.PassOver();
        }

        return owner;

        static string? Short(ref Utf8JsonReader reader)
        {
            long length = reader.HasValueSequence ? reader.ValueSequence.Length : reader.ValueSpan.Length;
            if (reader.TokenType == JsonTokenType.String && length <= longest)
                return reader.GetString();
            reader.PassOver();
            return null;
        }
    }

    private void Finalizers(ref Utf8JsonReader reader, LeanObjectMeta meta)
    {
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType == JsonTokenType.String && reader.ValueTextEquals(finalizer))
            {
                meta.Finalizers = [finalizer];
                meta.ForeignFinalizersBefore = meta.ForeignFinalizers;
            }
            else
            {
                reader.PassOver();
                meta.ForeignFinalizers++;
            }
        }
    }

    /// <summary>Goes on to the value when the property has that name.</summary>
    private static bool Take(ref Utf8JsonReader reader, ReadOnlySpan<byte> name) =>
        reader.TokenType == JsonTokenType.PropertyName && reader.ValueTextEquals(name) && reader.Read();

    private static void SkipProperty(ref Utf8JsonReader reader)
    {
        reader.Read();
        reader.PassOver();
    }
}
