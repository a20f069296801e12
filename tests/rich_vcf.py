"""A VCF with everything that VCFs have: multi-allelic, symbolic, breakends, odd names, samples, circular contigs."""

from __future__ import annotations

RICH = (
    b"##fileformat=VCFv4.3\n"
    b"##source=a tool, with = and <odd> things\n"
    b'##INFO=<ID=NOTE,Number=.,Type=String,Description="with \\"quotes\\", commas">\n'
    b'##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
    b'##FORMAT=<ID=PS,Number=1,Type=Integer,Description="Phase set">\n'
    b"##contig=<ID=chr1,length=1000,assembly=x>\n"
    b"##contig=<ID=HLA*01:01,length=1000>\n"
    b"##contig=<ID=plasmid,length=300,topology=circular>\n"
    b"##contig=<ID=chrM,length=16569,circular=true>\n"
    b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tfirst\tse cond\n"
    b"chr1\t10\trs1;rs2\tA\tG\t1e-3\tPASS\tNOTE=a,b;DB\tGT\t0|1\t1/1\n"
    b"chr1\t10\t.\ta\tc,N,*\t.\tq10;s50\t.\tGT:PS\t0|1:5\t.\n"
    b"chr1\t20\t.\tACGT\tA\t30\t.\tNOTE=caf\xc3\xa9;DB;;\tGT\t./.\t1|0\n"
    b"chr1\t20\t.\tA\t<DEL>\t.\t.\tSVTYPE=DEL;END=30\tGT\t0/1\t0/0\n"
    b"chr1\t21\t.\tN\t<DUP:TANDEM>,<INS>\t.\t.\tSVLEN=-5,10\tGT\t0/1\t0/0\n"
    b"chr1\t22\t.\tG\tG]chr1:300],[<ctg>:5[T,.A,C.\tnan\t.\t.\tGT\t0/1\t0/0\n"
    b"chr1\t23\t.\tG\t<NON_REF>\t.\t.\tEND=5\tGT\t0/0\t0/0\n"
    b"HLA*01:01\t1\t.\tR\t.\t.\t.\t.\tGT\t0\t0\n"
    b"chrM\t16569\t.\tG\tGATCACAG\tinf\t.\t.\tGT\t0\t1\n"
)
