using PciOperator.Api;
using PciOperator.CrdGenerator;

// Writes one CustomResourceDefinition per kind into a folder and their reference into a file, or with --check says which of them are stale.
bool check = args.Contains("--check");
string[] paths = [.. args.Where(a => !a.StartsWith('-'))];
if (paths.Length != 2 || args.Any(a => a.StartsWith('-') && a != "--check"))
{
    Console.Error.WriteLine("usage: PciOperator.CrdGenerator FOLDER REFERENCE [--check]");
    return 2;
}

DirectoryInfo folder = Directory.CreateDirectory(paths[0]);
Type[] kinds = [typeof(PciDeviceSpec), typeof(PciAlias), typeof(PassthroughClaim), typeof(PciNode), typeof(PciQuota)];
CustomResourceDefinition[] definitions = [.. kinds.Select(kind => new CustomResourceDefinition(kind))];

// By path: what a file has to hold.
var files = new SortedDictionary<string, string>(StringComparer.Ordinal);
try
{
    foreach (CustomResourceDefinition definition in definitions)
        files.Add(Path.Combine(folder.FullName, definition.FileName), definition.ToYaml());
    files.Add(Path.GetFullPath(paths[1]), ReferencePage.Of(definitions));
}
catch (IncompleteSchemaException e)
{
    Console.Error.WriteLine(e.Message);
    return 1;
}

return check ? Check() : Write();

int Write()
{
    foreach ((string path, string text) in files)
        File.WriteAllText(path, text);
    foreach (FileInfo orphan in Orphans())
        orphan.Delete();
    return 0;
}

int Check()
{
    var stale = new List<string>();
    foreach ((string path, string text) in files)
    {
        string name = Path.GetFileName(path);
        if (!File.Exists(path))
            stale.Add($"{name} is missing");
        else if (FirstDifference(File.ReadAllLines(path), text.TrimEnd('\n').Split('\n')) is { } difference)
            stale.Add($"{name} differs in {difference}");
    }

    stale.AddRange(Orphans().Select(f => $"{f.Name} belongs to no kind"));
    if (stale.Count == 0)
        return 0;
    Console.Error.WriteLine($"{paths[0]} or {paths[1]} is stale: {string.Join("; ", stale)}. Run 'make crds' and commit the result.");
    return 1;
}

IEnumerable<FileInfo> Orphans() => folder.GetFiles($"{PciOperatorApi.Group}_*.yaml").Where(f => !files.ContainsKey(f.FullName));

static string? FirstDifference(string[] has, string[] should)
{
    for (int i = 0; i < Math.Max(has.Length, should.Length); i++)
    {
        (string? a, string? b) = (has.ElementAtOrDefault(i), should.ElementAtOrDefault(i));
        if (a != b)
            return $"line {i + 1}: has {Shown(a)}, should have {Shown(b)}";
    }

    return null;

    static string Shown(string? line) => line is null ? "no such line" : $"\"{line.Trim()}\"";
}
