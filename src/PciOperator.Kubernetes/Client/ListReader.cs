using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using k8s;
using k8s.Models;

namespace PciOperator.Kubernetes;

/// <summary>
/// Reads a list as it arrives, one item at a time, so that no page is ever in memory as a whole and a caller's JSON
/// context need not know a list type for each entity.
/// </summary>
internal static class ListReader
{
    public static async Task<EntityList<T>> ReadAsync<T>(Stream stream, JsonSerializerOptions options, CancellationToken ct)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        using var buffer = new PooledReadBuffer(stream);
        var parser = new Parser<T>(options.TypeInfo<T>(), options.TypeInfo<V1ListMeta>());
        await buffer.FillAsync(ct);
        while (!parser.Advance(buffer))
        {
            // A value that did not fit is scanned again from its start: twice as much each time keeps that linear.
            if (!await buffer.FillAtLeastAsync(Math.Max(buffer.Length + 1, buffer.Length * 2), ct) && buffer.Ended)
                throw new IOException($"The list of {EntityType<T>.Plural} ended in the middle.");
        }

        V1ListMeta meta = parser.Meta with
        {
            ResourceVersion = parser.Meta.ResourceVersion ?? "",
            ContinueProperty = string.IsNullOrEmpty(parser.Meta.ContinueProperty) ? null : parser.Meta.ContinueProperty,
        };
        return new EntityList<T>(parser.Items, meta) { Unreadable = parser.Unreadable };
    }

    private enum Place
    {
        Start,
        Property,
        Items,
    }

    private sealed class Parser<T>(JsonTypeInfo<T> itemType, JsonTypeInfo<V1ListMeta> metaType)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        private JsonReaderState _state = new(ObjectReader.ReaderOptions);
        private Place _place;

        public List<T> Items { get; } = [];

        public List<UnreadableObject> Unreadable { get; } = [];

        public V1ListMeta Meta { get; private set; } = new();

        /// <summary>Takes what it can from the buffer; true when the list is complete.</summary>
        public bool Advance(PooledReadBuffer buffer)
        {
            while (true)
            {
                var reader = new Utf8JsonReader(buffer.Unread, isFinalBlock: false, _state);
                if (!Step(ref reader, buffer.Unread, out bool done))
                    return false;
                buffer.Consume((int)reader.BytesConsumed);
                _state = reader.CurrentState;
                if (done)
                    return true;
            }
        }

        /// <summary>One token, or one property with its whole value; false when it is not all there yet.</summary>
        private bool Step(ref Utf8JsonReader reader, ReadOnlySpan<byte> bytes, out bool done)
        {
            done = false;
            if (!reader.Read())
                return false;
            switch (_place)
            {
                case Place.Start:
                    if (reader.TokenType != JsonTokenType.StartObject)
                        throw new JsonException($"Expected a list of {EntityType<T>.Plural}, got a JSON {reader.TokenType}.");
                    _place = Place.Property;
                    return true;

                case Place.Items:
                    if (reader.TokenType == JsonTokenType.EndArray)
                    {
                        _place = Place.Property;
                        return true;
                    }

                    if (!TryValue(ref reader, bytes, out ReadOnlySpan<byte> item))
                        return false;
                    (T? obj, UnreadableObject? unreadable) = ObjectReader.Read(item, itemType);
                    if (obj is not null)
                        Items.Add(obj);
                    if (unreadable is not null)
                        Unreadable.Add(unreadable);
                    return true;

                default:
                    if (reader.TokenType == JsonTokenType.EndObject)
                        return done = true;
                    return Property(ref reader, bytes);
            }
        }

        private bool Property(ref Utf8JsonReader reader, ReadOnlySpan<byte> bytes)
        {
            bool isItems = reader.ValueTextEquals("items"u8);
            bool isMeta = reader.ValueTextEquals("metadata"u8);
            if (!reader.Read())
                return false;
            if (isItems && reader.TokenType == JsonTokenType.StartArray)
            {
                _place = Place.Items;
                return true;
            }

            if (!TryValue(ref reader, bytes, out ReadOnlySpan<byte> value))
                return false;
            if (isMeta)
                Meta = JsonSerializer.Deserialize(value, metaType) ?? Meta;
            return true;
        }

        private static bool TryValue(ref Utf8JsonReader reader, ReadOnlySpan<byte> bytes, out ReadOnlySpan<byte> value)
        {
            int start = (int)reader.TokenStartIndex;
            if (!reader.TrySkip())
            {
                value = default;
                return false;
            }

            value = bytes[start..(int)reader.BytesConsumed];
            return true;
        }
    }
}
