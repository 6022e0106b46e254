using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace PciOperator.Sandbox.Tests.ApiServer;

/// <summary>
/// Requests one after the other, from a text: <c>&gt; METHOD PATH [body type] [accept=…] [code-only]</c>, then the body. In
/// paths and bodies <c>${rv}</c>, <c>${uid}</c> and <c>${continue}</c> are those of the answer before.
/// </summary>
internal sealed partial class Scenario
{
    private static readonly Dictionary<string, string> BodyTypes = new(StringComparer.Ordinal)
    {
        ["json"] = "application/json",
        ["merge"] = "application/merge-patch+json",
        ["jsonpatch"] = "application/json-patch+json",
        ["strategic"] = "application/strategic-merge-patch+json",
        ["apply"] = "application/apply-patch+yaml",
    };

    private readonly List<Step> _steps = [];

    internal sealed record Step(string Method, string Path, string ContentType, string? Accept, bool CodeOnly, string Body)
    {
        public override string ToString() => $"{Method} {Path} {Body.Trim()}";
    }

    public static Scenario Read(string name)
    {
        var scenario = new Scenario();
        string text = File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "ApiServer", "scenarios", name));
        foreach (string part in Beginning().Split(text).Where(p => p.Trim().Length > 0))
        {
            int end = part.IndexOf('\n', StringComparison.Ordinal);
            string[] head = part[2..end].Split(' ', StringSplitOptions.RemoveEmptyEntries);
            string type = head.Skip(2).FirstOrDefault(BodyTypes.ContainsKey) ?? (head[0] == "PATCH" ? "merge" : "json");
            scenario._steps.Add(
                new Step(
                    head[0],
                    head[1],
                    BodyTypes[type],
                    head.FirstOrDefault(h => h.StartsWith("accept=", StringComparison.Ordinal))?[7..],
                    head.Contains("code-only"),
                    part[(end + 1)..]
                )
            );
        }

        return scenario;
    }

    /// <summary>What a server answers to each step, without what differs from one run to the next.</summary>
    public async Task<IReadOnlyList<(Step Step, string Answer)>> RunAsync(HttpClient http)
    {
        var answers = new List<(Step, string)>();
        JsonObject? last = null;
        foreach (Step step in _steps)
        {
            using var request = new HttpRequestMessage(new HttpMethod(step.Method), Fill(step.Path, last));
            if (step.Body.Trim().Length > 0)
            {
                request.Content = new StringContent(
                    Fill(step.Body, last),
                    System.Text.Encoding.UTF8,
                    new System.Net.Http.Headers.MediaTypeHeaderValue(step.ContentType)
                );
            }

            request.Headers.TryAddWithoutValidation("Accept", step.Accept ?? "application/json");
            using HttpResponseMessage response = await http.SendAsync(request);
            string text = await response.Content.ReadAsStringAsync();
            // A watch's answer is one JSON text a line; others may go over several lines.
            string[] lines = step.Path.Contains("watch=", StringComparison.Ordinal)
                ? text.Split('\n', StringSplitOptions.RemoveEmptyEntries)
                : [text];
            List<JsonNode?> nodes = text.StartsWith('{') ? lines.Select(l => JsonNode.Parse(l)).ToList() : [];
            last = nodes.Count == 1 ? nodes[0] as JsonObject : null;
            string warnings = response.Headers.TryGetValues("Warning", out IEnumerable<string>? values) ? string.Join("\n", values) : "";
            string shown = nodes.Count == 0 ? text : string.Join("\n", nodes.Select(n => Settle(n, "")!.ToJsonString(Indented)));
            answers.Add((step, step.CodeOnly ? $"{(int)response.StatusCode}" : $"{(int)response.StatusCode}\n{shown}\n{warnings}"));
        }

        return answers;
    }

    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    private static string Fill(string text, JsonObject? last)
    {
        var metadata = last?["metadata"] as JsonObject;
        return text.Replace("${rv}", $"{metadata?["resourceVersion"]}", StringComparison.Ordinal)
            .Replace("${uid}", $"{metadata?["uid"]}", StringComparison.Ordinal)
            .Replace("${continue}", $"{metadata?["continue"]}", StringComparison.Ordinal);
    }

    // Order of members, causes, managers and problems is chance on a real server; versions, times and UIDs are of the run.
    private static JsonNode? Settle(JsonNode? node, string name)
    {
        switch (node)
        {
            case JsonObject obj:
                return new JsonObject(
                    obj.Where(p => p.Key != "continue")
                        .OrderBy(p => p.Key, StringComparer.Ordinal)
                        .Select(p => KeyValuePair.Create(p.Key, Settle(p.Value, p.Key)))
                );
            case JsonArray array:
                var items = array.Select(i => Settle(i, "")).ToList();
                if (name is "causes" or "managedFields")
                    items = [.. items.DistinctBy(i => i!.ToJsonString()).OrderBy(i => i!.ToJsonString(), StringComparer.Ordinal)];
                return new JsonArray([.. items.Select(i => i?.DeepClone())]);
            case JsonValue value when value.TryGetValue(out string? text):
                return name switch
                {
                    "uid" => "UID",
                    "resourceVersion" => "RV",
                    "message" => Problems()
                        .Replace(
                            Changing(text),
                            m =>
                                $"{m.Groups[1].Value}[{string.Join(", ", Problem().Split(m.Groups[2].Value).Order(StringComparer.Ordinal))}]"
                        ),
                    _ => Changing(text),
                };
            default:
                return node?.DeepClone();
        }
    }

    private static string Changing(string text) =>
        Ages().Replace(Numbers().Replace(Times().Replace(Uids().Replace(text, "UID"), "TIME"), "resource version: N"), "AGE");

    [GeneratedRegex("(?m)^(?=> )")]
    private static partial Regex Beginning();

    [GeneratedRegex("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")]
    private static partial Regex Uids();

    [GeneratedRegex(@"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")]
    private static partial Regex Times();

    [GeneratedRegex(@"resource version: \d+(, current: \d+| \(\d+\))?")]
    private static partial Regex Numbers();

    [GeneratedRegex(@"^\d+s$")]
    private static partial Regex Ages();

    [GeneratedRegex(@"^(.* is invalid: )\[(.*)\]$", RegexOptions.Singleline)]
    private static partial Regex Problems();

    [GeneratedRegex("(?:, )(?=[a-z<][^ ]*: )")]
    private static partial Regex Problem();
}
