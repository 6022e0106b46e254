using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using PciOperator.Kubernetes;
using YamlDotNet.RepresentationModel;

namespace PciOperator.Import.Tests;

/// <summary>What <c>kubectl pci import</c> says and how it ends, and the YAML that it writes.</summary>
public class ImportCommandTests
{
    private const string Good = "[pci]\ndevice_spec = {\"vendor_id\": \"8086\"}\n";
    private const string Half = "[pci]\ndevice_spec = {\"vendor_id\": \"8086\"}\nalias = {}\n";

    [Theory]
    [InlineData(Good, 0, "", "nova.conf", "-")]
    [InlineData(Half, 0, "standard input:3: alias: An alias needs a name.", "nova.conf", "-")]
    [InlineData(Half, 1, "standard input:3: alias: An alias needs a name.", "nova.conf", "-", "--strict")]
    [InlineData("[pci]\nalias = {}\n", 1, "Nothing was found to import.", "nova.conf", "-")]
    [InlineData("", 1, "Nothing was found to import.", "nova.conf", "-")]
    [InlineData("", 1, "Nothing was found to import.", "sriov", "-")]
    [InlineData("a: [", 1, "standard input:2: this is not YAML", "harvester", "-")]
    [InlineData("a: b", 1, "standard input:1: this is no object of Kubernetes: it has no kind", "sriov", "-")]
    [InlineData("kind: [x]", 1, "standard input:1: kind is a list or an object", "sriov", "-")]
    [InlineData("kind: List\nitems: [1, {kind: [x]}, null]", 1, "standard input:2: this is no object", "harvester", "-")]
    [InlineData("[", 1, "standard input: it is not JSON", "flavors", "-")]
    [InlineData("[7]", 1, "standard input: '7' is no flavor", "flavors", "-")]
    [InlineData(Good, 7, "There is no file absent.conf.", "nova.conf", "absent.conf")]
    [InlineData(Good, 1, "latin1.conf is not UTF-8 text.", "nova.conf", "latin1.conf")]
    [InlineData(Good, 2, "Name a nova.conf, or --node NODE=FILE.", "nova.conf")]
    [InlineData(Good, 2, "--node n1 is not NODE=FILE, such as", "nova.conf", "--node", "n1")]
    [InlineData(Good, 2, "--node-selector =x is not KEY=VALUE", "nova.conf", "-", "--node-selector", "=x")]
    [InlineData(Good, 1, "standard input:2: nodeSelector holds labels of nodes", "nova.conf", "--node", "Bad Name=-")]
    [InlineData(Good, 0, "", "nova.conf", "--node", "n1=-", "--node-selector", "pci=true")]
    [InlineData("\uFEFF[pci]\ndevice_spec = {}\n", 0, "begins with a byte order mark", "nova.conf", "-")]
    public async Task It_ends_with_a_sentence_and_a_code_that_scripts_can_use(string input, int code, string says, params string[] args)
    {
        (int ended, string output, string error) = await GoldenCase.RunAsync(Files, args, input);
        Assert.Equal(code, ended);
        if (says.Length == 0)
            Assert.Equal("", error);
        else
            Assert.Contains(says, error, StringComparison.Ordinal);
        Assert.Equal(code == 0 || args.Contains("--strict"), output.Contains("\nkind: PciDeviceSpec\n", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("[")]
    [InlineData("{a: ")]
    [InlineData("- ")]
    public async Task A_file_nested_without_end_is_refused(string level)
    {
        string text = string.Concat(Enumerable.Repeat(level, 20_000));
        (int code, _, string error) = await GoldenCase.RunAsync(Files, ["sriov", "-"], text);
        Assert.Equal(1, code);
        Assert.Contains("nested more than 100 deep", error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("x\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: evil}\n#")]
    [InlineData("x\r---\rkind: Secret")]
    [InlineData("x\u0085---\u2028kind: Secret\u2029")]
    [InlineData("\u001b[31mred\u202e")]
    public void Nothing_that_a_file_says_leaves_its_comment(string name)
    {
        var conf = new JsonObject
        {
            ["name"] = name,
            ["vendor_id"] = "8086",
            ["product_id"] = "154d",
        };
        ImportResult result = NovaConfImport.Read(
            new NovaConfSource
            {
                Files =
                [
                    new SourceFile(
                        name,
                        $"[pci]\nalias = {conf.ToJsonString()}\ndevice_spec = {{\"x\": {JsonValue.Create(name).ToJsonString()}}}\nalias = {name.Split('\n')[0]}\n"
                    ),
                ],
            }
        );
        var yaml = new YamlStream();
        yaml.Load(new StringReader(result.ToYaml()));
        Assert.Equal(result.Objects.Count, yaml.Documents.Count);
        Assert.DoesNotContain(result.ToYaml(), c => c is '\u001b' or '\u202e' or '\u0085' or '\u2028' or '\r');
        Assert.All(result.Errors, e => Assert.DoesNotContain('\n', e.ToString()));
    }

    [Theory]
    [InlineData("")]
    [InlineData("plain text")]
    [InlineData("10de")]
    [InlineData("dead")]
    [InlineData("1e04")]
    [InlineData("yes")]
    [InlineData("No")]
    [InlineData("null")]
    [InlineData("~")]
    [InlineData("0x10")]
    [InlineData("012")]
    [InlineData("12:30:45")]
    [InlineData("2026-01-01")]
    [InlineData(".inf")]
    [InlineData("- a")]
    [InlineData("a: b")]
    [InlineData("a:")]
    [InlineData("a #b")]
    [InlineData(" a ")]
    [InlineData("a ")]
    [InlineData("\"q\" \\ 'r'")]
    [InlineData("line\nbreak\ttab\r")]
    [InlineData("\u0000\u0007\u007f\u0085\u2028\uFEFF")]
    [InlineData("ümläut \U0001F600 \U000E0001")]
    [InlineData("{a}")]
    [InlineData("*a")]
    [InlineData("&a")]
    [InlineData("!a")]
    [InlineData("%a")]
    [InlineData("@a")]
    [InlineData("<<")]
    [InlineData("=")]
    public void Every_text_is_read_back_from_YAML_as_it_was(string text)
    {
        var json = new JsonObject
        {
            [text] = new JsonArray(text, new JsonObject { ["k"] = text, ["n"] = new JsonArray(new JsonArray(text)) }),
        };
        using var document = JsonDocument.Parse(json.ToJsonString());
        JsonNode? read = Sandbox.Cluster.Manifests.Read(YamlText.Of(document.RootElement)).Single();
        Assert.True(JsonNode.DeepEquals(json, read), YamlText.Of(document.RootElement));
    }

    private static byte[] Files(string name) =>
        name switch
        {
            "latin1.conf" => Encoding.Latin1.GetBytes("[pci]\n# ü\n"),
            _ => throw new FileNotFoundException(name),
        };
}
