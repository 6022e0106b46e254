using PciOperator.NovaVectors;

if (args.Length != 1)
{
    Console.Error.WriteLine(
        "usage: nova-vectors <folder with cases.jsonl, expected.jsonl, exact.jsonl[, ops_cases.jsonl, ops_expected.jsonl]>"
    );
    return 2;
}

VectorSet set;
try
{
    set = VectorSet.Read(args[0]);
}
catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidDataException)
{
    Console.Error.WriteLine(e.Message);
    return 2;
}

Report report = set.Check();
report.Print(Console.Out);
if (report.Lines == 0)
    Console.Error.WriteLine($"{args[0]} has no lines to compare.");
return report is { Failed: 0, Lines: > 0 } ? 0 : 1;
