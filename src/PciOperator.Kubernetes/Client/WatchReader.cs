using System.Net;
using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using PciOperator.Kubernetes.Models;

namespace PciOperator.Kubernetes;

/// <summary>
/// Reads a watch: one JSON event a line. The envelope is read by hand, because an ERROR holds a Status and a BOOKMARK
/// only a version, and because that is the quickest.
/// </summary>
internal static class WatchReader
{
    public static async IAsyncEnumerable<WatchEvent<T>> ReadAsync<T>(Stream stream, JsonSerializerOptions options, [EnumeratorCancellation] CancellationToken ct)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        var objectType = options.TypeInfo<T>();
        var statusType = options.TypeInfo<V1Status>();
        using var buffer = new PooledReadBuffer(stream);
        var searched = 0;
        while (true)
        {
            var newline = buffer.Unread[searched..].IndexOf((byte)'\n');
            if (newline < 0)
            {
                searched = buffer.Length;
                if (await buffer.FillAsync(ct))
                    continue;
                if (buffer.Unread.IndexOfAnyExcept(" \r\n\t"u8) >= 0)
                    throw new IOException($"The watch of {EntityType<T>.Plural} ended in the middle of an event.");
                yield break;
            }

            var length = searched + newline;
            searched = 0;
            if (buffer.Unread[..length].IndexOfAnyExcept(" \r\t"u8) < 0)
            {
                buffer.Consume(length + 1);
                continue;
            }

            var watchEvent = ParseEvent(buffer.Unread[..length], objectType, statusType);
            buffer.Consume(length + 1);
            yield return watchEvent;
        }
    }

    internal static WatchEvent<T> ParseEvent<T>(ReadOnlySpan<byte> line, JsonTypeInfo<T> objectType, JsonTypeInfo<V1Status> statusType)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        var reader = new Utf8JsonReader(line);
        string? type = null;
        ReadOnlySpan<byte> value = default;
        reader.Read();
        if (reader.TokenType != JsonTokenType.StartObject)
            throw new JsonException("A watch event is not a JSON object.");
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (reader.ValueTextEquals("type"u8))
            {
                reader.Read();
                type = TypeOf(ref reader);
            }
            else
            {
                var isObject = reader.ValueTextEquals("object"u8);
                reader.Read();
                // The object comes last from every server: with the type known it is read in place.
                if (isObject && type is "ADDED" or "MODIFIED" or "DELETED")
                    return Changed(type, JsonSerializer.Deserialize(ref reader, objectType));
                var start = (int)reader.TokenStartIndex;
                reader.Skip();
                if (isObject)
                    value = line[start..(int)reader.BytesConsumed];
            }
        }

        switch (type)
        {
            case "BOOKMARK":
                return new WatchEvent<T>(WatchEventType.Bookmark, null, ResourceVersionOf(value));
            case "ERROR":
                var status = JsonSerializer.Deserialize(value, statusType) ?? new V1Status();
                throw new KubernetesException((HttpStatusCode)(status.Code ?? 500), status);
            case "ADDED" or "MODIFIED" or "DELETED":
                return Changed(type, JsonSerializer.Deserialize(value, objectType));
            default:
                throw new JsonException($"A watch event has type '{type}'; expected ADDED, MODIFIED, DELETED, BOOKMARK or ERROR.");
        }
    }

    private static string? TypeOf(ref Utf8JsonReader reader) =>
        reader.ValueTextEquals("MODIFIED"u8) ? "MODIFIED"
        : reader.ValueTextEquals("ADDED"u8) ? "ADDED"
        : reader.ValueTextEquals("DELETED"u8) ? "DELETED"
        : reader.ValueTextEquals("BOOKMARK"u8) ? "BOOKMARK"
        : reader.GetString();

    private static WatchEvent<T> Changed<T>(string type, T? obj)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        if (obj is null)
            throw new JsonException($"A watch event {type} has no object.");
        EntityType<T>.WithKind(obj);
        var kind = type switch
        {
            "ADDED" => WatchEventType.Added,
            "MODIFIED" => WatchEventType.Modified,
            _ => WatchEventType.Deleted,
        };
        return new WatchEvent<T>(kind, obj, obj.Metadata.ResourceVersion ?? "");
    }

    /// <summary><c>metadata.resourceVersion</c> of an object, without reading the rest.</summary>
    private static string ResourceVersionOf(ReadOnlySpan<byte> obj)
    {
        var reader = new Utf8JsonReader(obj);
        reader.Read();
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var found = reader.ValueTextEquals(reader.CurrentDepth == 1 ? "metadata"u8 : "resourceVersion"u8);
            var depth = reader.CurrentDepth;
            reader.Read();
            if (found && depth == 2)
                return reader.GetString() ?? "";
            if (!found)
                reader.Skip();
        }

        throw new JsonException("A bookmark has no metadata.resourceVersion.");
    }
}
