using System.Text.Json.Nodes;

namespace PciOperator.Api.Tests;

/// <summary>Objects that pass their schema and keep or break rules at random.</summary>
internal sealed class RandomObjects(int seed)
{
    private static readonly Values Ids = new(
        ["8086", "10c9", "86", "*", "0x8086", "0X10C9", "10DE"],
        ["8086:10c9", "82576", "ghij", "80 86", " 8086", "8086\n", "**", "0x", "８０８６"]
    );

    private static readonly Values AliasIds = new(["8086", "10c9", "10DE"], ["86", "*", "0x8086", "8086:10c9", "80860", "8086\n", "80g6"]);

    private static readonly Values Classes = new(["02", "0200", "020000", "c0de"], ["0x02", "020", "02000000", "02\n", "zz"]);

    private static readonly Values Addresses = new(
        ["0000:21:00.0", "*:81:*.*", "21:00.", ".1", "1f", "*", ".", ":", "::.", "10000:e1:00.0", "FFFFFFFF:ff:1F.7", "a", "0:a:0.0"],
        [
            "0000:21:20.0",
            "0000:21:00.8",
            "0:0000:21:00.0",
            "0000:100:00.0",
            "ens3f0",
            "0000:21:00.0\n",
            "0000:21:0*.0",
            "0x21:00.0",
            "21.00.0",
            "123456789:0:0.0",
        ]
    );

    private static readonly Values FullAddresses = new(
        ["0000:21:00.0", "10000:e1:1f.7"],
        ["*:21:00.0", "0000:21:0A.0", "21:00.0", "0000:21:00.0\n"]
    );

    private static readonly Values DeviceNames = new(
        ["ens3f0", "eth0.100", "a", "wlp2s0-x@y", "fifteen-letters"],
        ["sixteen-letters!", "0000:21:00.0", "eth0:1", "a/b", "a b", "eth0\n", "ünet"]
    );

    private static readonly Values Expressions = new(
        ["2[01]", "", ".*", "0000", "[^2]", "(a|b)?", "(?!1f)", "(?:0|1)", "\\d\\d", "\\", "^2.$", "{"],
        ["[0-", "(", ")", "*", "a**", "[z-a]", "0000:21", "21:00.0", "x{2,1}"]
    );

    private static readonly Values Names = new(
        ["a", "a1", "nv-2080", "b", "worker-3"],
        ["worker-3.example.com", "a..b", "-a", "a-", "A1", "a_1", "a1:2", "a1,a2", "a\n", "a.", "x/y", "default/a"]
    );

    private static readonly Values RequestNames = new([.. Enumerable.Range(0, 20).Select(i => $"r-{i}")], Names.Bad);

    private static readonly Values CoLocated = new(Names.Good, ["random", .. Names.Bad.Where(n => n != "worker-3.example.com")]);

    private static readonly Values LabelKeys = new(
        ["a", "A_b.c", "example.com/zone", new('k', 63)],
        ["EXAMPLE/zone", "a/b/c", "-a", "a b", "", "x/", "/x", "a\n", new('k', 64)]
    );

    private static readonly Values LabelValues = new(["", "a", "A_b.c-d", new('v', 63)], ["-a", "a-", "a b", "a\n", "ü"]);

    private static readonly Values Tags = new(
        ["owner", "x y", "Vendor_id", ""],
        [
            "vendor_id",
            "vendorId",
            "product_id",
            "productId",
            "address",
            "devname",
            "device_name",
            "deviceName",
            "physical_network",
            "physicalNetwork",
            "trusted",
            "managed",
            "remote_managed",
            "remoteManaged",
            "live_migratable",
            "liveMigratable",
            "one_time_use",
            "oneTimeUse",
            "resource_class",
            "resourceClass",
            "traits",
            "numa_node",
            "numaNode",
            "dev_type",
            "device_type",
            "deviceType",
            "parent_ifname",
            "parent_addr",
            "rp_uuid",
            "count",
            "numa_policy",
            "numaPolicy",
            "capability_type",
        ]
    );

    private static readonly Values Traits = new(["CUSTOM_A", "HW_GPU", "big one", "a\n"], ["A,B", ",", " ", "  ,"]);

    private static readonly Values ResourceClasses = new(["PGPU", "custom_a", "_"], ["CUSTOM_A-B", "a b", "VGPU\n", "ü"]);

    private static readonly Values Text = new(["x", ""], []);

    private readonly Random _random = new(seed);

    /// <summary>A PciDeviceSpec.</summary>
    public JsonObject DeviceSpec() =>
        Object(
            "PciDeviceSpec",
            new JsonObject()
                .With("devices", List(1, 4, Selector))
                .Sometimes(_random, "nodeSelector", Labels)
                .Sometimes(_random, "resourceClass", () => Pick(ResourceClasses))
                .Sometimes(_random, "traits", () => Set(Traits))
                .Sometimes(_random, "tags", () => Map(Tags, Text))
                .Sometimes(_random, "guardOverrides", () => List(1, 1, GuardOverride))
        );

    /// <summary>A PciAlias.</summary>
    public JsonObject Alias() =>
        Object(
            "PciAlias",
            new JsonObject()
                .With(
                    "devices",
                    List(
                        1,
                        3,
                        () =>
                            new JsonObject()
                                .Mostly(_random, "vendorId", () => Pick(AliasIds))
                                .Mostly(_random, "productId", () => Pick(AliasIds))
                                .Sometimes(_random, "deviceType", () => "type-PF")
                                .Sometimes(_random, "resourceClass", () => Pick(ResourceClasses))
                                .Sometimes(_random, "traits", () => Set(Traits))
                                .Sometimes(_random, "tags", () => Map(Tags, Text))
                    )
                )
                .Sometimes(_random, "namespaceSelector", NamespaceSelector)
        );

    /// <summary>A PciQuota.</summary>
    public JsonObject Quota() =>
        Object(
            "PciQuota",
            new JsonObject()
                .With(
                    "limits",
                    new JsonArray([
                        .. Several(new Values(["*", .. Names.Good], Names.Bad))
                            .Select(alias => new JsonObject().With("alias", alias).With("devices", _random.Next(0, 9))),
                    ])
                )
                .Sometimes(_random, "namespaces", () => Set(new Values(["a", "team-b", "x0"], ["a.b", "-a", "A", "a\n", "a/b"])))
                .Sometimes(_random, "namespaceSelector", NamespaceSelector)
        );

    private JsonObject NamespaceSelector() =>
        new JsonObject()
            .Sometimes(_random, "matchLabels", Labels)
            .Mostly(
                _random,
                "matchExpressions",
                () =>
                    List(
                        0,
                        3,
                        () =>
                            new JsonObject()
                                .With("key", Pick(LabelKeys with { Bad = [.. LabelKeys.Bad.Where(k => k.Length > 0)] }))
                                .With("operator", Pick(new(["In", "NotIn", "Exists", "DoesNotExist"], [])))
                                .Sometimes(_random, "values", () => Set(LabelValues))
                    )
            );

    /// <summary>A PassthroughClaim.</summary>
    public JsonObject Claim() =>
        Object(
            "PassthroughClaim",
            new JsonObject()
                .With(
                    "requests",
                    List(
                        1,
                        4,
                        () =>
                            new JsonObject()
                                .With("name", Pick(RequestNames))
                                .With("alias", Pick(Names))
                                .Sometimes(_random, "count", () => _random.Next(1, 17))
                    )
                )
                .Sometimes(_random, "numaPolicy", () => "required")
                .Sometimes(_random, "numaNodes", () => new JsonArray(0, 1))
                .Sometimes(_random, "guestNuma", () => "none")
                .Sometimes(_random, "priorityClassName", () => Pick(new(["gold", "a.b"], ["system-node-critical", "1_000", "Gold"])))
                .Sometimes(_random, "nodeName", () => Pick(Names))
                .Sometimes(_random, "nodeSelector", Labels)
                .Sometimes(_random, "tolerations", () => List(0, 3, Toleration))
                .Sometimes(_random, "coLocateWith", () => Set(CoLocated))
        );

    /// <summary>A claim that breaks no rule.</summary>
    public JsonObject GoodClaim() =>
        Object(
            "PassthroughClaim",
            new JsonObject()
                .With("requests", new JsonArray(Request("a"), Request("b"), Request("c")))
                .Sometimes(_random, "numaPolicy", () => "required")
                .Sometimes(_random, "priorityClassName", () => "gold")
                .Sometimes(_random, "numaNodes", () => new JsonArray(0, 1, 2))
                .Sometimes(_random, "nodeSelector", () => new JsonObject { ["a"] = "1", ["b"] = "2" })
                .Sometimes(_random, "tolerations", () => new JsonArray(new JsonObject { ["key"] = "a" }, new JsonObject { ["key"] = "b" }))
                .Sometimes(_random, "coLocateWith", () => new JsonArray("x", "y"))
        );

    /// <summary>A copy that differs in one place: in a value, or only in the order of a list.</summary>
    public JsonObject Changed(JsonObject claim)
    {
        JsonObject copy = claim.DeepClone().AsObject();
        JsonObject spec = copy["spec"]!.AsObject();
        (string? field, JsonNode? value) = spec.Where(p => p.Value is not null).ElementAt(_random.Next(spec.Count));
        switch (value)
        {
            case JsonArray list when _random.Next(3) > 0:
                JsonNode? first = list[0];
                list.RemoveAt(0);
                list.Add(first);
                break;
            case JsonArray list when list[0] is JsonObject item && item.ContainsKey("alias"):
                item["alias"] = "other";
                break;
            case JsonArray list:
                list.RemoveAt(0);
                break;
            case JsonObject map when _random.Next(2) == 0:
                (string? key, JsonNode? one) = map.First();
                map.Remove(key);
                map.Add(key, one?.DeepClone()); // In another order.
                break;
            default:
                spec.Remove(field);
                break;
        }

        return copy;
    }

    private JsonObject Request(string name) => new JsonObject().With("name", name).With("alias", "a1").Sometimes(_random, "count", () => 2);

    private JsonObject Selector() =>
        new JsonObject()
            .Sometimes(_random, "vendorId", () => Pick(Ids))
            .Sometimes(_random, "productId", () => Pick(Ids))
            .Sometimes(_random, "subsystemVendorId", () => Pick(Ids))
            .Sometimes(_random, "subsystemProductId", () => Pick(Ids))
            .Sometimes(_random, "classCode", () => Pick(Classes))
            .Sometimes(_random, "address", () => Pick(Addresses))
            .Sometimes(
                _random,
                "addressPattern",
                () =>
                    new JsonObject()
                        .Sometimes(_random, "domain", () => Pick(Expressions))
                        .Sometimes(_random, "bus", () => Pick(Expressions))
                        .Sometimes(_random, "slot", () => Pick(Expressions))
                        .Sometimes(_random, "function", () => Pick(Expressions))
            )
            .Sometimes(_random, "deviceName", () => Pick(DeviceNames));

    private JsonObject GuardOverride() =>
        new JsonObject()
            .With("nodeName", Pick(Names))
            .With("address", Pick(FullAddresses))
            .Sometimes(_random, "ids", () => Pick(new(["8086:10c9"], ["8086:10C9", "8086", "8086:10c9\n"])))
            .Sometimes(_random, "serial", () => "90-e2");

    private JsonObject Toleration() =>
        new JsonObject()
            .Sometimes(_random, "key", () => Pick(new(["gpu"], [""])))
            .Sometimes(_random, "operator", () => Pick(new(["Equal", "Exists"], [])))
            .Sometimes(_random, "value", () => Pick(new(["", "true"], [])));

    private JsonObject Labels() => Map(LabelKeys, LabelValues);

    // One in twelve is bad.
    private string Pick(Values from)
    {
        string[] pool = from.Bad.Length > 0 && _random.Next(12) == 0 ? from.Bad : from.Good;
        return pool[_random.Next(pool.Length)];
    }

    private JsonArray Set(Values from) => new([.. Several(from).Select(text => JsonValue.Create(text))]);

    private JsonObject Map(Values keys, Values values) =>
        new(Several(keys).Select(key => KeyValuePair.Create(key, (JsonNode?)Pick(values))));

    private IEnumerable<string> Several(Values from) => Enumerable.Range(0, _random.Next(1, 3)).Select(_ => Pick(from)).Distinct().ToList();

    private JsonArray List(int least, int most, Func<JsonObject> item) =>
        new([.. Enumerable.Range(0, _random.Next(least, most + 1)).Select(_ => item())]);

    private static JsonObject Object(string kind, JsonObject spec) =>
        new()
        {
            ["apiVersion"] = PciOperatorApi.GroupVersion,
            ["kind"] = kind,
            ["metadata"] = new JsonObject { ["name"] = "random" },
            ["spec"] = spec,
        };
}

/// <summary>Values of a field that keep its rules, and that break them where the field stands alone.</summary>
internal sealed record Values(string[] Good, string[] Bad);

/// <summary>Fields that are there by chance.</summary>
internal static class RandomFields
{
    public static JsonObject With(this JsonObject obj, string field, JsonNode? value)
    {
        obj[field] = value;
        return obj;
    }

    public static JsonObject Sometimes(this JsonObject obj, Random random, string field, Func<JsonNode> value) =>
        random.Next(4) == 0 ? obj.With(field, value()) : obj;

    public static JsonObject Mostly(this JsonObject obj, Random random, string field, Func<JsonNode> value) =>
        random.Next(4) > 0 ? obj.With(field, value()) : obj;
}
