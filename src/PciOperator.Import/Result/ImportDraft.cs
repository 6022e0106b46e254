using PciOperator.Api;

namespace PciOperator.Import;

/// <summary>Where something is said.</summary>
/// <param name="File">The file.</param>
/// <param name="Line">The line; null: the file has none to name.</param>
internal readonly record struct Place(string File, int? Line)
{
    /// <summary><c>nova.conf:12</c>.</summary>
    public override string ToString() => Line is { } line ? $"{File}:{line}" : File;
}

/// <summary>An import while it is made.</summary>
internal sealed class ImportDraft
{
    private readonly List<ImportedObject> _objects = [];
    private readonly List<ImportError> _errors = [];
    private readonly ObjectNames _claimNames = new();

    /// <summary>Names of PciDeviceSpecs.</summary>
    public ObjectNames SpecNames { get; } = new();

    /// <summary>Names of PciAliases.</summary>
    public ObjectNames AliasNames { get; } = new();

    /// <summary>What is said of the whole, in order.</summary>
    public List<string> Notes { get; } = [];

    /// <summary>Adds a spec under a name of its own, or refuses what the API server would.</summary>
    public void Add(Place from, string name, PciDeviceSpecSpec spec, IReadOnlyList<string> notes) =>
        AddNamed(from, SpecNames.Unique(name), spec, notes);

    /// <summary>Adds a spec whose name is known before (<see cref="SpecNames"/>), or refuses what the API server would.</summary>
    public void AddNamed(Place from, string name, PciDeviceSpecSpec spec, IReadOnlyList<string> notes)
    {
        if (!Takes(from, FieldChecks.Broken(spec)))
            return;
        var entity = new PciDeviceSpec
        {
            Metadata = new() { Name = name },
            Spec = spec,
        };
        _objects.Add(ImportedObject.Of(entity, notes));
    }

    /// <summary>Adds an alias; its name is known before (<see cref="AliasNames"/>).</summary>
    public void Add(Place from, string name, PciAliasSpec alias, IReadOnlyList<string> notes)
    {
        if (!Takes(from, alias.Devices.Select(FieldChecks.Broken).FirstOrDefault(b => b is not null)))
            return;
        var entity = new PciAlias
        {
            Metadata = new() { Name = name },
            Spec = alias,
        };
        _objects.Add(ImportedObject.Of(entity, notes));
    }

    /// <summary>Adds a claim under a name of its own.</summary>
    public void Add(Place from, string name, PassthroughClaimSpec claim, IReadOnlyList<string> notes)
    {
        if (!Takes(from, FieldChecks.Broken(claim)))
            return;
        var entity = new PassthroughClaim
        {
            Metadata = new() { Name = _claimNames.Unique(name) },
            Spec = claim,
        };
        _objects.Add(ImportedObject.Of(entity, notes));
    }

    /// <summary>Says what can't be meant.</summary>
    public void Refuse(Place from, string message) => _errors.Add(new ImportError(from.File, from.Line, message));

    /// <inheritdoc cref="Refuse(Place, string)"/>
    public void Refuse(string file, int? line, string message) => Refuse(new Place(file, line), message);

    /// <summary>What came of it; errors in the order of the files' lines.</summary>
    /// <param name="files">The files, in order.</param>
    public ImportResult Result(IEnumerable<SourceFile> files)
    {
        List<string> order = [.. files.Select(f => f.Name)];
        return new ImportResult
        {
            Objects = _objects,
            Notes = Notes,
            Errors = [.. _errors.OrderBy(e => order.IndexOf(e.File)).ThenBy(e => e.Line ?? 0)],
        };
    }

    private bool Takes(Place from, string? broken)
    {
        if (broken is not null)
            Refuse(from, broken);
        return broken is null;
    }
}
