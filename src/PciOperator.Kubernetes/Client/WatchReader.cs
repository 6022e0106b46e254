using System.Net;
using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using k8s;
using k8s.Models;

namespace PciOperator.Kubernetes;

/// <summary>
/// Reads a watch: one JSON event a line. The envelope is read by hand, because an ERROR holds a Status and a BOOKMARK
/// only a version, and because that is the quickest.
/// </summary>
internal static class WatchReader
{
    public static async IAsyncEnumerable<WatchEvent<T>> ReadAsync<T>(
        Stream stream,
        JsonSerializerOptions options,
        [EnumeratorCancellation] CancellationToken ct
    )
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        JsonTypeInfo<T> objectType = options.TypeInfo<T>();
        JsonTypeInfo<V1Status> statusType = options.TypeInfo<V1Status>();
        using var buffer = new PooledReadBuffer(stream);
        int searched = 0;
        while (true)
        {
            int newline = buffer.Unread[searched..].IndexOf((byte)'\n');
            if (newline < 0)
            {
                searched = buffer.Length;
                if (await buffer.FillAsync(ct))
                    continue;
                if (buffer.Unread.IndexOfAnyExcept(" \r\n\t"u8) >= 0)
                    throw new IOException($"The watch of {EntityType<T>.Plural} ended in the middle of an event.");
                yield break;
            }

            int length = searched + newline;
            searched = 0;
            if (buffer.Unread[..length].IndexOfAnyExcept(" \r\t"u8) < 0)
            {
                buffer.Consume(length + 1);
                continue;
            }

            WatchEvent<T> watchEvent = ParseEvent(buffer.Unread[..length], objectType, statusType);
            buffer.Consume(length + 1);
            yield return watchEvent;
        }
    }

    internal static WatchEvent<T> ParseEvent<T>(ReadOnlySpan<byte> line, JsonTypeInfo<T> objectType, JsonTypeInfo<V1Status> statusType)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        var reader = new Utf8JsonReader(line, ObjectReader.ReaderOptions);
        string? type = null;
        ReadOnlySpan<byte> value = default;
        reader.Read();
        if (reader.TokenType != JsonTokenType.StartObject)
            throw new JsonException("A watch event is not a JSON object.");
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            bool isType = reader.ValueTextEquals("type"u8);
            bool isObject = reader.ValueTextEquals("object"u8);
            reader.Read();
            if (isType)
            {
                type = TypeOf(ref reader);
                continue;
            }

            int start = (int)reader.TokenStartIndex;
            reader.Skip();
            if (isObject)
                value = line[start..(int)reader.BytesConsumed];
        }

        switch (type)
        {
            case "BOOKMARK":
                return new WatchEvent<T>(WatchEventType.Bookmark, null, VersionOf(ObjectReader.Unreadable(value, "")));
            case "ERROR":
                V1Status status = StatusOf(value, statusType);
                throw new ApiException((HttpStatusCode)(status.Code ?? 500), status);
            case "ADDED" or "MODIFIED" or "DELETED":
                return Changed(type, value, objectType);
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

    private static V1Status StatusOf(ReadOnlySpan<byte> value, JsonTypeInfo<V1Status> statusType)
    {
        try
        {
            return JsonSerializer.Deserialize(value, statusType) ?? new V1Status();
        }
        catch (JsonException e)
        {
            return new V1Status { Message = $"The server ended the watch with an error that can't be read: {e.Message}" };
        }
    }

    private static WatchEvent<T> Changed<T>(string type, ReadOnlySpan<byte> value, JsonTypeInfo<T> objectType)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        WatchEventType kind = type switch
        {
            "ADDED" => WatchEventType.Added,
            "MODIFIED" => WatchEventType.Modified,
            _ => WatchEventType.Deleted,
        };
        if (value.IsEmpty)
            throw new JsonException($"A watch event {type} has no object.");
        (T? obj, UnreadableObject? unreadable) = ObjectReader.Read(value, objectType);
        if (unreadable is not null)
            return new WatchEvent<T>(kind, null, VersionOf(unreadable)) { Unreadable = unreadable };
        return obj is null
            ? throw new JsonException($"A watch event {type} has no object.")
            : new WatchEvent<T>(kind, obj, obj.Metadata.ResourceVersion ?? "");
    }

    /// <summary>Without a version nobody knows where the watch is: it has to begin anew.</summary>
    private static string VersionOf(UnreadableObject obj) =>
        obj.ResourceVersion ?? throw new JsonException($"An event of the watch has no metadata.resourceVersion. {obj.Reason}");
}
