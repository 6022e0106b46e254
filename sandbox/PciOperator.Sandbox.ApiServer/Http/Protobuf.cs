using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;

namespace PciOperator.Sandbox.ApiServer.Http;

/// <summary>
/// Reads the built-in kinds that kubectl creates through its typed clients, which speak Kubernetes' protobuf: an envelope
/// (<c>k8s\0</c>, runtime.Unknown) around the object. Field numbers are those of Kubernetes' generated.proto files.
/// </summary>
internal static class Protobuf
{
    public const string MediaType = "application/vnd.kubernetes.protobuf";

    private enum Form
    {
        Text,
        Number,
        Flag,
        Bytes,
        TextMap,
        BytesMap,
        QuantityMap,
        Time,
        MicroTime,
        Message,
    }

    private sealed record Field(string Name, Form Form, bool Repeated = false, string Message = "");

    private static readonly byte[] Magic = "k8s\0"u8.ToArray();

    private static readonly Dictionary<string, Dictionary<int, Field>> Messages = new(StringComparer.Ordinal)
    {
        ["ObjectMeta"] = new()
        {
            [1] = new("name", Form.Text),
            [2] = new("generateName", Form.Text),
            [3] = new("namespace", Form.Text),
            [5] = new("uid", Form.Text),
            [6] = new("resourceVersion", Form.Text),
            [7] = new("generation", Form.Number),
            [8] = new("creationTimestamp", Form.Time),
            [9] = new("deletionTimestamp", Form.Time),
            [10] = new("deletionGracePeriodSeconds", Form.Number),
            [11] = new("labels", Form.TextMap),
            [12] = new("annotations", Form.TextMap),
            [13] = new("ownerReferences", Form.Message, true, "OwnerReference"),
            [14] = new("finalizers", Form.Text, true),
        },
        ["OwnerReference"] = new()
        {
            [1] = new("kind", Form.Text),
            [3] = new("name", Form.Text),
            [4] = new("uid", Form.Text),
            [5] = new("apiVersion", Form.Text),
            [6] = new("controller", Form.Flag),
            [7] = new("blockOwnerDeletion", Form.Flag),
        },
        ["DeleteOptions"] = new()
        {
            [1] = new("gracePeriodSeconds", Form.Number),
            [2] = new("preconditions", Form.Message, false, "Preconditions"),
            [3] = new("orphanDependents", Form.Flag),
            [4] = new("propagationPolicy", Form.Text),
            [5] = new("dryRun", Form.Text, true),
        },
        ["Preconditions"] = new() { [1] = new("uid", Form.Text), [2] = new("resourceVersion", Form.Text) },
        ["Namespace"] = new()
        {
            [1] = Meta,
            [2] = new("spec", Form.Message, false, "NamespaceSpec"),
            [3] = new("status", Form.Message, false, "Empty"),
        },
        ["NamespaceSpec"] = new() { [1] = new("finalizers", Form.Text, true) },
        ["ConfigMap"] = new()
        {
            [1] = Meta,
            [2] = new("data", Form.TextMap),
            [3] = new("binaryData", Form.BytesMap),
            [4] = new("immutable", Form.Flag),
        },
        ["Secret"] = new()
        {
            [1] = Meta,
            [2] = new("data", Form.BytesMap),
            [3] = new("type", Form.Text),
            [4] = new("stringData", Form.TextMap),
            [5] = new("immutable", Form.Flag),
        },
        ["ServiceAccount"] = new() { [1] = Meta, [4] = new("automountServiceAccountToken", Form.Flag) },
        ["Role"] = new() { [1] = Meta, [2] = new("rules", Form.Message, true, "PolicyRule") },
        ["ClusterRole"] = new() { [1] = Meta, [2] = new("rules", Form.Message, true, "PolicyRule") },
        ["PolicyRule"] = new()
        {
            [1] = new("verbs", Form.Text, true),
            [2] = new("apiGroups", Form.Text, true),
            [3] = new("resources", Form.Text, true),
            [4] = new("resourceNames", Form.Text, true),
            [5] = new("nonResourceURLs", Form.Text, true),
        },
        ["RoleBinding"] = new()
        {
            [1] = Meta,
            [2] = new("subjects", Form.Message, true, "Subject"),
            [3] = new("roleRef", Form.Message, false, "RoleRef"),
        },
        ["ClusterRoleBinding"] = new()
        {
            [1] = Meta,
            [2] = new("subjects", Form.Message, true, "Subject"),
            [3] = new("roleRef", Form.Message, false, "RoleRef"),
        },
        ["Subject"] = new()
        {
            [1] = new("kind", Form.Text),
            [2] = new("apiGroup", Form.Text),
            [3] = new("name", Form.Text),
            [4] = new("namespace", Form.Text),
        },
        ["RoleRef"] = new()
        {
            [1] = new("apiGroup", Form.Text),
            [2] = new("kind", Form.Text),
            [3] = new("name", Form.Text),
        },
        ["ResourceQuota"] = new()
        {
            [1] = Meta,
            [2] = new("spec", Form.Message, false, "ResourceQuotaSpec"),
            [3] = new("status", Form.Message, false, "Empty"),
        },
        ["ResourceQuotaSpec"] = new() { [1] = new("hard", Form.QuantityMap), [2] = new("scopes", Form.Text, true) },
        ["PriorityClass"] = new()
        {
            [1] = Meta,
            [2] = new("value", Form.Number),
            [3] = new("globalDefault", Form.Flag),
            [4] = new("description", Form.Text),
            [5] = new("preemptionPolicy", Form.Text),
        },
        ["Lease"] = new() { [1] = Meta, [2] = new("spec", Form.Message, false, "LeaseSpec") },
        ["LeaseSpec"] = new()
        {
            [1] = new("holderIdentity", Form.Text),
            [2] = new("leaseDurationSeconds", Form.Number),
            [3] = new("acquireTime", Form.MicroTime),
            [4] = new("renewTime", Form.MicroTime),
            [5] = new("leaseTransitions", Form.Number),
        },
        ["Empty"] = [],
    };

    private static Field Meta => new("metadata", Form.Message, false, "ObjectMeta");

    /// <summary>The object; null when it isn't of a kind that is known here, or has fields that are not.</summary>
    public static JsonObject? Read(ReadOnlySpan<byte> body)
    {
        if (!body.StartsWith(Magic))
            return null;
        string apiVersion = "",
            kind = "";
        ReadOnlySpan<byte> raw = default;
        var envelope = new Reader(body[Magic.Length..]);
        while (envelope.Next(out int number, out ReadOnlySpan<byte> bytes, out _))
        {
            if (number == 2)
                raw = bytes;
            if (number != 1)
                continue;
            var type = new Reader(bytes);
            while (type.Next(out int field, out ReadOnlySpan<byte> text, out _))
            {
                if (field == 1)
                    apiVersion = Encoding.UTF8.GetString(text);
                else
                    kind = Encoding.UTF8.GetString(text);
            }
        }

        if (!Messages.ContainsKey(kind) || ReadMessage(raw, kind) is not { } obj)
            return null;
        obj["apiVersion"] = apiVersion;
        obj["kind"] = kind;
        return obj;
    }

    private static JsonObject? ReadMessage(ReadOnlySpan<byte> bytes, string message)
    {
        Dictionary<int, Field> fields = Messages[message];
        var obj = new JsonObject();
        var reader = new Reader(bytes);
        while (reader.Next(out int number, out ReadOnlySpan<byte> content, out long integer))
        {
            if (!fields.TryGetValue(number, out Field? field))
            {
                // A message that says nothing is skipped; anything else would be lost.
                if (content.Length > 0 && message != "Empty")
                    return null;
                continue;
            }

            JsonNode? value;
            switch (field.Form)
            {
                case Form.TextMap or Form.BytesMap or Form.QuantityMap:
                    (string? key, JsonNode? entry) = MapEntry(content, field.Form);
                    obj.Child(field.Name)[key] = entry;
                    continue;
                case Form.Message:
                    value = ReadMessage(content, field.Message);
                    if (value is null)
                        return null;
                    break;
                case Form.Number:
                    value = JsonValue.Create(integer);
                    break;
                case Form.Flag:
                    value = JsonValue.Create(integer != 0);
                    break;
                case Form.Bytes:
                    value = JsonValue.Create(Convert.ToBase64String(content));
                    break;
                case Form.Time or Form.MicroTime:
                    value = Timestamp(content, field.Form);
                    break;
                default:
                    value = JsonValue.Create(Encoding.UTF8.GetString(content));
                    break;
            }

            if (field.Repeated)
            {
                if (obj.Arr(field.Name) is not { } list)
                    obj[field.Name] = list = [];
                list.Add(value);
            }
            else if (value is not JsonValue scalar || (Json.AsString(scalar) != "" && !(scalar.TryGetValue(out bool flag) && !flag)))
            {
                // Go writes empty values where JSON leaves the field out.
                obj[field.Name] = value;
            }
        }

        return obj;
    }

    private static (string Key, JsonNode Value) MapEntry(ReadOnlySpan<byte> bytes, Form form)
    {
        string key = "";
        JsonNode value = JsonValue.Create("");
        var reader = new Reader(bytes);
        while (reader.Next(out int number, out ReadOnlySpan<byte> content, out _))
        {
            if (number == 1)
            {
                key = Encoding.UTF8.GetString(content);
                continue;
            }

            value = form switch
            {
                Form.BytesMap => JsonValue.Create(Convert.ToBase64String(content)),
                Form.QuantityMap => JsonValue.Create(First(content)),
                _ => JsonValue.Create(Encoding.UTF8.GetString(content)),
            };
        }

        return (key, value);
    }

    // A Quantity is a message with its text as field 1.
    private static string First(ReadOnlySpan<byte> bytes)
    {
        var reader = new Reader(bytes);
        return reader.Next(out _, out ReadOnlySpan<byte> content, out _) ? Encoding.UTF8.GetString(content) : "";
    }

    private static JsonValue? Timestamp(ReadOnlySpan<byte> bytes, Form form)
    {
        long seconds = 0,
            nanos = 0;
        var reader = new Reader(bytes);
        while (reader.Next(out int number, out _, out long integer))
        {
            if (number == 1)
                seconds = integer;
            else
                nanos = integer;
        }

        // Go's zero time stands for none.
        if (bytes.Length == 0 || seconds == -62135596800)
            return null;
        DateTimeOffset time = DateTimeOffset.FromUnixTimeSeconds(seconds).AddTicks(nanos / 100);
        return JsonValue.Create(
            form == Form.Time
                ? Json.Timestamp(time)
                : time.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'", CultureInfo.InvariantCulture)
        );
    }

    /// <summary>The fields of a message, one after the other.</summary>
    private ref struct Reader(ReadOnlySpan<byte> bytes)
    {
        private ReadOnlySpan<byte> _rest = bytes;

        public bool Next(out int number, out ReadOnlySpan<byte> content, out long integer)
        {
            number = 0;
            content = default;
            integer = 0;
            if (_rest.IsEmpty)
                return false;
            ulong tag = Varint();
            number = (int)(tag >> 3);
            switch (tag & 7)
            {
                case 0:
                    integer = (long)Varint();
                    return true;
                case 2:
                    int length = (int)Varint();
                    if (length < 0 || length > _rest.Length)
                        throw ApiError.BadRequest("unexpected EOF");
                    content = _rest[..length];
                    _rest = _rest[length..];
                    return true;
                default:
                    throw ApiError.BadRequest($"proto: illegal wireType {tag & 7}");
            }
        }

        private ulong Varint()
        {
            ulong value = 0;
            for (int shift = 0; shift < 64; shift += 7)
            {
                if (_rest.IsEmpty)
                    throw ApiError.BadRequest("unexpected EOF");
                byte b = _rest[0];
                _rest = _rest[1..];
                value |= (ulong)(b & 0x7f) << shift;
                if (b < 0x80)
                    return value;
            }

            throw ApiError.BadRequest("proto: integer overflow");
        }
    }
}
