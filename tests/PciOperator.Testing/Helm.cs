using System.Diagnostics;
using YamlDotNet.RepresentationModel;

namespace PciOperator.Testing;

/// <summary>
/// Renders a chart: by the program that PCI_TEST_HELM names, else by helm from the PATH. A program that is not called helm gets the chart's
/// folder and files with values, and prints the objects.
/// </summary>
public static class Helm
{
    private const string HowTo = "No Helm: put helm on the PATH, or set PCI_TEST_HELM to it or to a program that renders charts.";

    /// <summary>The objects of a chart in the order in which Helm applies them, without hooks.</summary>
    /// <param name="chart">The chart's folder.</param>
    /// <param name="values">YAML of values; null: the chart's own.</param>
    /// <exception cref="InvalidOperationException">It is not rendered; the message has what was said.</exception>
    public static async Task<IReadOnlyList<YamlMappingNode>> ObjectsAsync(string chart, string? values = null) =>
        [.. (await AllAsync(chart, values)).Where(o => !IsHook(o)).OrderBy(Order)];

    /// <summary>The hooks of a chart: objects that are not a release's.</summary>
    public static async Task<IReadOnlyList<YamlMappingNode>> HooksAsync(string chart, string? values = null) =>
        [.. (await AllAsync(chart, values)).Where(IsHook)];

    /// <summary>YAML of objects, a document each.</summary>
    public static string Text(IEnumerable<YamlMappingNode> objects)
    {
        using var writer = new StringWriter();
        new YamlStream(objects.Select(o => new YamlDocument(o))).Save(writer, assignAnchors: false);
        return writer.ToString();
    }

    /// <summary>The objects in a YAML text.</summary>
    public static IReadOnlyList<YamlMappingNode> Read(string yaml)
    {
        var stream = new YamlStream();
        stream.Load(new StringReader(yaml));
        return [.. stream.Documents.Select(d => d.RootNode).OfType<YamlMappingNode>().Where(m => m.Children.Count > 0)];
    }

    // Namespaces and definitions before what is in them or of them; the rest needs no order.
    private static int Order(YamlMappingNode o) =>
        (o["kind"] as YamlScalarNode)?.Value is "Namespace" or "CustomResourceDefinition" ? 0 : 1;

    private static bool IsHook(YamlMappingNode o) =>
        o["metadata"] is YamlMappingNode metadata
        && metadata.Children.TryGetValue("annotations", out YamlNode? annotations)
        && annotations is YamlMappingNode map
        && map.Children.ContainsKey("helm.sh/hook");

    private static async Task<IReadOnlyList<YamlMappingNode>> AllAsync(string chart, string? values)
    {
        string? program = Environment.GetEnvironmentVariable("PCI_TEST_HELM") is { Length: > 0 } named
            ? named
            : (Environment.GetEnvironmentVariable("PATH") ?? "")
                .Split(':')
                .Select(folder => Path.Combine(folder, "helm"))
                .FirstOrDefault(File.Exists);
        if (program is null)
            Requirement.IsMissing(HowTo);
        bool isHelm = Path.GetFileName(program) == "helm";
        string file = Path.GetTempFileName();
        try
        {
            await File.WriteAllTextAsync(file, values ?? "{}");
            using Process process = Process.Start(
                new ProcessStartInfo(
                    program,
                    isHelm
                        ?
                        [
                            "template",
                            "pci-operator",
                            chart,
                            "--namespace=kube-system",
                            "--api-versions=monitoring.coreos.com/v1",
                            "--values",
                            file,
                        ]
                        : [chart, file]
                )
                {
                    RedirectStandardOutput = true,
                    RedirectStandardError = true,
                }
            )!;
            Task<string> output = process.StandardOutput.ReadToEndAsync();
            Task<string> errors = process.StandardError.ReadToEndAsync();
            await process.WaitForExitAsync();
            return process.ExitCode == 0
                ? Read(await output)
                : throw new InvalidOperationException($"{program} ended with {process.ExitCode}: {await errors}");
        }
        finally
        {
            File.Delete(file);
        }
    }
}
