using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer;
using PciOperator.Sandbox.ApiServer.Patching;
using PciOperator.Sandbox.ApiServer.Schemas;
using PciOperator.Sandbox.ApiServer.Storage;
using PciOperator.Sandbox.ApiServer.Tables;

namespace PciOperator.Sandbox.Tests.ApiServer;

/// <summary>The pieces that have rules of their own: patches, patterns, paths, selectors.</summary>
public sealed class PatchTests
{
    [Theory]
    [InlineData("""{"a":"b"}""", """{"a":"c"}""", """{"a":"c"}""")]
    [InlineData("""{"a":"b","b":"c"}""", """{"a":null}""", """{"b":"c"}""")]
    [InlineData("""{"a":["b"]}""", """{"a":"c"}""", """{"a":"c"}""")]
    [InlineData("""{"a":{"b":"c"}}""", """{"a":{"b":"d","c":null}}""", """{"a":{"b":"d"}}""")]
    [InlineData("""{"e":null}""", """{"a":1}""", """{"e":null,"a":1}""")]
    [InlineData("{}", """{"a":{"bb":{"ccc":null}}}""", """{"a":{"bb":{}}}""")]
    public void Merge_patches_are_those_of_RFC_7386(string target, string patch, string result) =>
        AssertJson(result, MergePatch.Apply(JsonNode.Parse(target), JsonNode.Parse(patch)));

    [Theory]
    [InlineData("""{"foo":["bar","baz"]}""", """[{"op":"add","path":"/foo/1","value":"qux"}]""", """{"foo":["bar","qux","baz"]}""")]
    [InlineData("""{"foo":["a"]}""", """[{"op":"add","path":"/foo/-","value":"b"}]""", """{"foo":["a","b"]}""")]
    [InlineData("""{"foo":["bar","qux","baz"]}""", """[{"op":"remove","path":"/foo/1"}]""", """{"foo":["bar","baz"]}""")]
    [InlineData("""{"a":{"b":1},"c":{}}""", """[{"op":"move","from":"/a/b","path":"/c/d"}]""", """{"a":{},"c":{"d":1}}""")]
    [InlineData("""{"a":1}""", """[{"op":"copy","from":"/a","path":"/b"},{"op":"test","path":"/b","value":1}]""", """{"a":1,"b":1}""")]
    [InlineData("""{"a/b":1,"m~n":2}""", """[{"op":"replace","path":"/a~1b","value":3},{"op":"remove","path":"/m~0n"}]""", """{"a/b":3}""")]
    [InlineData("""{"a":1}""", """[{"op":"test","path":"/b","value":null}]""", """{"a":1}""")]
    public void JSON_patches_are_those_of_RFC_6902(string document, string patch, string result) =>
        AssertJson(result, JsonPatch.Apply(JsonNode.Parse(document), (JsonArray)JsonNode.Parse(patch)!));

    [Theory]
    [InlineData("""{"a":1}""", """[{"op":"test","path":"/a","value":2}]""")]
    [InlineData("""{"a":1}""", """[{"op":"replace","path":"/b","value":2}]""")]
    [InlineData("""{"a":[1]}""", """[{"op":"add","path":"/a/3","value":2}]""")]
    [InlineData("""{"a":[1]}""", """[{"op":"remove","path":"/a/01"}]""")]
    public void JSON_patches_that_do_not_fit_are_refused(string document, string patch) =>
        Assert.Throws<JsonPatchException>(() => JsonPatch.Apply(JsonNode.Parse(document), (JsonArray)JsonNode.Parse(patch)!));

    [Theory]
    [InlineData(
        """{"status":{"conditions":[{"type":"A","status":"x"}]}}""",
        """{"status":{"conditions":[{"type":"B","status":"y"},{"type":"A","status":"z"}]}}""",
        """{"status":{"conditions":[{"type":"A","status":"z"},{"type":"B","status":"y"}]}}"""
    )]
    [InlineData(
        """{"status":{"conditions":[{"type":"A"},{"type":"B"}]}}""",
        """{"status":{"conditions":[{"type":"A","$patch":"delete"}]}}""",
        """{"status":{"conditions":[{"type":"B"}]}}"""
    )]
    [InlineData("""{"spec":{"taints":[{"key":"a"}]}}""", """{"spec":{"taints":[{"key":"b"}]}}""", """{"spec":{"taints":[{"key":"b"}]}}""")]
    [InlineData(
        """{"metadata":{"finalizers":["a","b"]}}""",
        """{"metadata":{"$deleteFromPrimitiveList/finalizers":["a"],"finalizers":["c"]}}""",
        """{"metadata":{"finalizers":["b","c"]}}"""
    )]
    [InlineData(
        """{"spec":{"containers":[{"name":"a"},{"name":"b"}]}}""",
        """{"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"a"}],"containers":[{"name":"a","image":"i"}]}}""",
        """{"spec":{"containers":[{"name":"b"},{"name":"a","image":"i"}]}}"""
    )]
    [InlineData("""{"spec":{"x":{"a":1,"b":2}}}""", """{"spec":{"x":{"$patch":"replace","c":3}}}""", """{"spec":{"x":{"c":3}}}""")]
    public void Strategic_merge_patches_know_lists_by_their_keys(string current, string patch, string result) =>
        AssertJson(result, StrategicMergePatch.Apply(Json.ParseObject(current), Json.ParseObject(patch)));

    [Theory]
    [InlineData("^[a-z]+$", "abc", true)]
    [InlineData("^[a-z]+$", "abc\n", false)]
    [InlineData(@"^\d$", "٣", false)]
    [InlineData(@"^[\w-]+$", "a-b_9", true)]
    [InlineData("^[$]$", "$", true)]
    public void Patterns_mean_what_they_mean_in_Go(string pattern, string text, bool matches) =>
        Assert.Equal(matches, GoRegex.Compile(pattern).IsMatch(text));

    [Theory]
    [InlineData(".a.b", "1")]
    [InlineData(".list[*].n", "x y")]
    [InlineData(".list[1].n", "y")]
    [InlineData(""".list[?(@.n=="y")].v""", "2")]
    [InlineData(".map['a.b']", "q")]
    [InlineData(@".map.a\.b", "q")]
    [InlineData(".nothing.there", "")]
    public void Column_paths_find(string path, string values)
    {
        JsonNode root = JsonNode.Parse("""{"a":{"b":1},"list":[{"n":"x","v":1},{"n":"y","v":2}],"map":{"a.b":"q"}}""")!;
        Assert.Equal(values, string.Join(" ", new JsonPath(path).Find(root).Select(JsonPath.Plain)));
    }

    [Theory]
    [InlineData(0, "0s")]
    [InlineData(119, "119s")]
    [InlineData(150, "2m30s")]
    [InlineData(600, "10m")]
    [InlineData(3 * 3600, "3h")]
    [InlineData((7 * 3600) + 300, "7h5m")]
    [InlineData(47 * 3600, "47h")]
    [InlineData(49 * 3600, "2d1h")]
    [InlineData(9 * 86400, "9d")]
    [InlineData(3 * 365 * 86400, "3y")]
    public void Ages_read_as_kubectl_writes_them(int seconds, string text) =>
        Assert.Equal(text, PrinterColumns.HumanDuration(TimeSpan.FromSeconds(seconds)));

    [Theory]
    [InlineData("a=1", true)]
    [InlineData("a!=1", false)]
    [InlineData("b", false)]
    [InlineData("!b", true)]
    [InlineData("a in (1, 2),c notin (x)", true)]
    [InlineData("a>0,a<2", true)]
    [InlineData("a=", false)]
    [InlineData("", true)]
    public void Label_selectors_select(string selector, bool matches) =>
        Assert.Equal(matches, LabelSelector.Parse(selector).Matches(Json.ParseObject("""{"a":"1"}""")));

    [Fact]
    public void Field_sets_read_and_write_as_fieldsV1()
    {
        const string text = """{"f:spec":{".":{},"f:a":{},"f:list":{"k:{\"name\":\"x\"}":{".":{},"f:v":{}},"v:\"s\"":{}}}}""";
        var set = FieldSet.Parse(Json.ParseObject(text));
        AssertJson(text, set.ToJson());
        Assert.Equal([".spec", ".spec.a", ".spec.list[name=\"x\"]", ".spec.list[=\"s\"]", ".spec.list[name=\"x\"].v"], set.Paths());
        Assert.True(set.Difference(set).IsEmpty);
        AssertJson(text, set.Union(FieldSet.Of("f:spec f:a")).ToJson());
        AssertJson("""{"f:spec":{"f:a":{}}}""", set.Intersection(FieldSet.Of("f:spec f:a", "f:other")).ToJson());
    }

    private static void AssertJson(string expected, JsonNode? actual) =>
        Assert.True(Json.Same(Json.ParseObject(expected), actual), $"expected {expected}, got {actual?.ToJsonString()}");
}
