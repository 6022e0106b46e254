using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using k8s;
using k8s.Models;

namespace PciOperator.Kubernetes;

/// <summary>An object that the server has and that can't be read here: known by name alone. Everything else goes on.</summary>
/// <param name="Key">Its name; empty when not even that can be read.</param>
/// <param name="Uid">Its UID, if that can be read.</param>
/// <param name="ResourceVersion">Its version, if that can be read.</param>
/// <param name="Reason">What is wrong with it.</param>
public sealed record UnreadableObject(EntityKey Key, string? Uid, string? ResourceVersion, string Reason);

/// <summary>Reads one object, or what there is to know of it when it can't be read.</summary>
internal static class ObjectReader
{
    /// <summary>An object may be nested deeper than a model reads; skipping it must not fail for that.</summary>
    public static JsonReaderOptions ReaderOptions { get; } = new() { MaxDepth = 10_000 };

    /// <summary>Exactly one of both is null, except for JSON's <c>null</c>, of which nothing comes.</summary>
    public static (T? Object, UnreadableObject? Unreadable) Read<T>(ReadOnlySpan<byte> json, JsonTypeInfo<T> type)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        try
        {
            if (JsonSerializer.Deserialize(json, type) is not { } obj)
                return default;
            // The model says it is always there; JSON's null says otherwise.
            return obj.Metadata is null ? (null, Unreadable(json, "it has no metadata")) : (EntityType<T>.WithKind(obj), null);
        }
        catch (Exception e) when (IsAboutTheObject(e))
        {
            return (null, Unreadable(json, e.Message));
        }
    }

    /// <summary>Whether an error says that an object can't be read.</summary>
    public static bool IsAboutTheObject(Exception e) =>
        e
            is JsonException
                or InvalidOperationException
                or FormatException
                or OverflowException
                or ArgumentException
                or NotSupportedException;

    /// <summary>What the metadata says of an object's name and version, without reading the rest.</summary>
    public static UnreadableObject Unreadable(ReadOnlySpan<byte> json, string reason)
    {
        string? name = null,
            ns = null,
            uid = null,
            version = null;
        try
        {
            var reader = new Utf8JsonReader(json, ReaderOptions);
            reader.Read();
            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                bool isMetadata = reader.CurrentDepth == 1 && reader.ValueTextEquals("metadata"u8);
                bool isWanted =
                    reader.CurrentDepth == 2
                    && (
                        reader.ValueTextEquals("name"u8)
                        || reader.ValueTextEquals("namespace"u8)
                        || reader.ValueTextEquals("uid"u8)
                        || reader.ValueTextEquals("resourceVersion"u8)
                    );
                string? property = isWanted ? reader.GetString() : null;
                reader.Read();
                if (isMetadata && reader.TokenType == JsonTokenType.StartObject)
                    continue;
                if (property is not null && reader.TokenType == JsonTokenType.String)
                {
                    string? value = reader.GetString();
                    _ = property switch
                    {
                        "name" => name = value,
                        "namespace" => ns = value,
                        "uid" => uid = value,
                        _ => version = value,
                    };
                }
                else
                {
                    reader.Skip();
                }
            }
        }
        catch (Exception e) when (IsAboutTheObject(e))
        {
            // What was found so far has to do.
        }

        return new UnreadableObject(new EntityKey(string.IsNullOrEmpty(ns) ? null : ns, name ?? ""), uid, version, reason);
    }
}
